"""The power of a case: which mistakes it exposes, in whose units, and why it hides the others."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from attnconf.backends.protocol import Unsupported
from attnconf.backends.reference import ReferenceBackend
from attnconf.cases.case import Case, Layer, Paging
from attnconf.cases.drawing.space import Space
from attnconf.cases.drawing.strategies import cases, free_layers
from attnconf.cases.request import Request
from attnconf.cli import main as cli
from attnconf.cli.power import power_lines
from attnconf.judging.effects import effective_features, mistake_units, units_by_layer
from attnconf.judging.mistakes import MISTAKES
from attnconf.judging.posed import PosedCase
from attnconf.judging.power import CasePower, LayerPower, case_power, layer_power
from attnconf.judging.search import CLAIMED
from attnconf.platforms import Platform
from attnconf.precision import NumericsProfile, usual_profile

FREE = Space(name="free", layers=free_layers(), max_kv_len=120, max_new_tokens=8, verify_lens=(2, 3, 8))
HEADS = {"num_qo_heads": 4, "num_kv_heads": 2, "head_dim": 64, "sm_scale": 1.0}
SLIDING = Layer(kind="sliding", window_left=15, **HEADS)
FULL = Layer(kind="full", **HEADS)


def posed(**changes: object) -> PosedCase:
    given_case = {
        "mode": "decode",
        "layers": (SLIDING, FULL),
        "requests": (Request(prefix_len=100), Request(prefix_len=5)),
        "paging": Paging(page_size=8, hybrid=True),
        "seed": 3,
    }
    return PosedCase(Case(**{**given_case, **changes}), torch.device("cpu"))


def units(power: LayerPower, mistake: str) -> list[float | None]:
    return [one.units for request in power.requests for one in request.exposures if one.mistake == mistake]


def hidden(power: LayerPower, mistake: str) -> list[str]:
    return [one.hidden for request in power.requests for one in request.exposures if one.mistake == mistake]


def test_a_window_is_exposed_by_the_request_that_it_cuts_alone() -> None:
    power = layer_power(posed(), 0)
    for mistake in ("window off", "window one more", "window one less"):
        long, short = units(power, mistake)
        assert long is not None
        assert long >= 10
        assert short is None or short == 0.0
        assert hidden(power, mistake)[0] == ""
        assert hidden(power, mistake)[1] != ""
    assert "window" in power.effective


def test_what_makes_no_difference_is_not_applicable() -> None:
    power = layer_power(posed(), 1)
    for mistake in ("window off", "soft cap off", "sinks off", "own KV", "k_scale off", "untranslated"):
        assert units(power, mistake) == [None, None]
        assert set(hidden(power, mistake)) == {"makes no difference here"}
    assert "hybrid" in power.effective  # the full layer's part: ids of the sliding pool


def test_an_effect_below_ten_units_is_not_exposed_and_its_feature_not_effective() -> None:
    near = FULL.model_copy(update={"sm_scale": 0.13})  # 1 / sqrt(64) is 0.125
    case = posed(layers=(near,), paging=Paging(page_size=8))
    power = layer_power(case, 0)
    assert units(power, "scale default")[0] < 10
    assert hidden(power, "scale default")[0] == "below 10 units"
    assert "sm_scale" in power.features
    assert "sm_scale" not in power.effective
    assert power.weakest.mistake == "scale default"


def test_a_request_without_query_rows_exposes_nothing() -> None:
    requests = (Request(prefix_len=30, new_tokens=3), Request(prefix_len=20, new_tokens=0))
    power = layer_power(posed(mode="extend", requests=requests), 1)
    silent = power.requests[1].exposures
    assert {(one.units, one.hidden) for one in silent} == {(None, "no query row")}


def test_every_mistake_is_told_for_every_request() -> None:
    power = layer_power(posed(), 0)
    for request in power.requests:
        assert [one.mistake for one in request.exposures] == [mistake.name for mistake in MISTAKES]


def test_the_units_are_those_of_the_kernel() -> None:
    coarse, fine = (layer_power(posed(), 0, NumericsProfile(p=p)) for p in ("bfloat16", "float32"))
    assert units(fine, "window off")[0] > units(coarse, "window off")[0]
    assert layer_power(posed(), 0).profile == "P bfloat16"


def test_a_backend_without_lse_hides_its_base() -> None:
    backend = ReferenceBackend()
    silent = layer_power(posed(), 0, lse=False)
    assert set(hidden(silent, "LSE in base two")) == {"the backend returns no LSE"}
    assert units(layer_power(posed(), 0), "LSE in base two")[0] > 1000
    assert case_power("x", posed(), (backend, Platform())).backend == "reference"


class Declining(ReferenceBackend):
    name = "declining"

    def supports(self, shape: object, platform: Platform) -> Unsupported | None:
        del platform
        return Unsupported("no windows") if shape.windowed else None


def test_a_declined_layer_has_its_reason_and_no_figures() -> None:
    power = case_power("x", posed(), (Declining(), Platform()))
    assert (power.layers[0].unsupported, power.layers[0].requests) == ("no windows", ())
    assert power.layers[1].requests
    assert "  layer 0 sliding: declining declares it unsupported: no windows" in list(power_lines(power))


@given(cases(FREE))
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_power_counts_the_features_that_a_run_counts(case: Case) -> None:
    asked = PosedCase(case, torch.device("cpu"))
    profile = usual_profile(case.q_dtype)
    layers, requests = range(len(case.layers)), range(len(case.requests))
    pairs = [[(asked.scene(layer, one), asked.answer(layer, one, profile)) for one in requests] for layer in layers]
    for layer, units in enumerate(units_by_layer(pairs)):
        power = layer_power(asked, layer)
        assert power.effective == effective_features(units) == effective_features(mistake_units(pairs[layer]))
        assert set(power.effective) <= set(power.features) <= {mistake.feature for mistake in CLAIMED}


def save(path: Path, case: Case) -> str:
    path.write_text(json.dumps(case.to_data()))
    return str(path)


def test_the_command_prints_a_table_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path / "one.json", posed().case)
    assert cli.main(["power", path, "--json", str(tmp_path / "p.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("(one)")
    assert "  layer 0 sliding, in units of the bound of a kernel with P bfloat16" in lines
    assert any(line.split()[:3] == ["window", "off", "window"] for line in lines)
    assert any(line.startswith("    weakest claim: ") for line in lines)
    assert any("not exposed, not applicable: " in line and "soft cap off" in line for line in lines)
    read = [CasePower.from_data(data, "p.json") for data in json.loads((tmp_path / "p.json").read_text())]
    assert [one.case_id for one in read] == [posed().case.id]
    assert read[0] == case_power("one", posed())


def test_the_command_takes_folders_and_a_backend(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        save(tmp_path / f"{name}.json", posed(seed=ord(name)).case)
    assert cli.main(["power", str(tmp_path), "--backend", "reference"]) == 0
    out = capsys.readouterr().out
    assert out.count("case ") == 2
    assert "in units of the bound of reference with float32" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["absent.json"], "absent.json"),
        (["one.json", "--backend", "nobody"], "'nobody'; allowed: "),
        (["list.json"], "list.json"),
        (["empty"], "holds no case files"),
    ],
)
def test_bad_input_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "one.json", posed().case)
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "empty").mkdir()
    assert cli.main(["power", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert said in captured.err
    assert not captured.out


def test_an_infinite_effect_survives_json() -> None:
    power = layer_power(posed(), 0)
    first = power.requests[0].exposures[0].model_copy(update={"units": math.inf})
    assert type(first).from_data(first.to_data(), "x").units == math.inf
