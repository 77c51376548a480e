"""Bad input is one printable sentence, whatever stands in the file."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from attnconf import files
from attnconf.cases.case import Case, Paging
from attnconf.cli import main as cli
from attnconf.errors import InvalidInputError
from attnconf.gate.plans.fleet import parse_fleet
from attnconf.gate.plans.fleet_plan import FleetPlan, plan_fleet
from attnconf.gate.sealed import seal
from attnconf.policy.policy import parse_policy
from attnconf.values import read_json
from conformance.tests.support.gate_repository import AFTER, FLEET


def test_an_integer_of_too_many_digits_is_invalid_input(tmp_path: Path) -> None:
    path = tmp_path / "case.json"
    path.write_text('{"seed": ' + "7" * 5000 + "}")
    with pytest.raises(InvalidInputError, match=r"case\.json: .*digits"):
        read_json(path)


def test_a_field_name_cannot_write_to_the_terminal() -> None:
    with pytest.raises(InvalidInputError, match="second") as caught:
        Paging.from_data({"\x1b[31m\nsecond": 1}, "case.json")
    assert str(caught.value).isprintable()


def test_a_long_field_name_is_cut() -> None:
    with pytest.raises(InvalidInputError) as caught:
        Paging.from_data({"x" * 10_000: 1}, "case.json")
    assert len(str(caught.value)) < 400


def test_a_value_cannot_write_to_the_terminal() -> None:
    with pytest.raises(InvalidInputError) as caught:
        Case.from_data({"mode": "\x1b[31m\u2028x\x9b", "layers": [], "requests": []}, "case.json")
    assert str(caught.value).isprintable()


def test_names_that_print_are_left_alone() -> None:
    with pytest.raises(InvalidInputError, match=r"^case\.json: page_size is 0; "):
        Paging.from_data({"page_size": 0}, "case.json")


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    """Return the status of a command and what it says, which is one line."""
    capsys.readouterr()
    status = cli.main(list(map(str, words)))
    out, err = capsys.readouterr()
    said = (out + err).removesuffix("1 finding: the gate stays shut\n")
    assert said.count("\n") == 1
    return status, said


@pytest.mark.parametrize("source", ["/dev/zero", "pipe"])
def test_what_never_ends_is_refused_by_every_reader(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0.05)
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("endless.toml").symlink_to(source)
    policy = ("--policy", "sglang-gemma4")
    for words in (
        *(("report", source), ("matrix", source), ("merge", source, "-o", "m.json"), ("picture", source)),
        *(("replay", source), ("power", source), ("verify-requests", source), ("sign", source, "--key", "k")),
        *(("report", "--speed", source), ("paired", source, "--candidate", "a", "--over", "b", "-o", "p.json")),
        *(("verify", *policy, "--plan", source), ("plan", *policy, "--fleet", source)),
        *(("policy", "check", "endless.toml"), ("plan", "--policy", "endless.toml", "--sm", "10.0")),
    ):
        status, said = answer(capsys, *words)
        assert status == (11 if "endless.toml" in words else 2), words
        assert "too large" in said or "no end within" in said


PLAN = plan_fleet(parse_policy(AFTER, "after"), parse_fleet(FLEET, "fleet"), "0" * 40)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"runner": "gone"}, "jobs on runners of the fleet, and 'cpu' is on 'gone'"),
        ({"name": "b200"}, "jobs of distinct names, but two are called 'b200'"),
    ],
)
def test_a_sealed_plan_that_contradicts_itself_is_refused(change: dict[str, str], sentence: str) -> None:
    data = json.loads(json.dumps(PLAN.to_data()))
    next(job for job in data["jobs"] if job["name"] == "cpu").update(change)
    with pytest.raises(InvalidInputError, match=sentence):
        FleetPlan.from_data({**data, "digest": seal(data)}, "plan.json")


@pytest.mark.parametrize("name", ["sm_scale", "logits_soft_cap", "k_scale", "v_scale"])
@pytest.mark.parametrize("value", [1e308, 1e30, 5e-324, 1e-30])
def test_a_scale_that_no_kernel_can_hold_is_refused(name: str, value: float) -> None:
    layer: dict[str, Any] = {"kind": "full", "num_qo_heads": 2, "num_kv_heads": 1, "head_dim": 16, "sm_scale": 0.25}
    data = {"mode": "decode", "kv_dtype": "float8_e4m3fn", "layers": [{**layer, name: value}], "requests": [{}]}
    with pytest.raises(InvalidInputError, match=re.escape(f"c: layers.0.{name} is {value}; allowed: ")):
        Case.from_data(data, "c")


def test_a_number_that_python_does_not_show_is_refused_in_words() -> None:
    with pytest.raises(InvalidInputError, match="a int too long or too deep to be shown"):
        parse_policy("schema = 0x" + "f" * 5000, "p")


NAMES = "[" + ", ".join(f'"N{i}"' for i in range(10_000)) + "]"
RULE = '[[rules]]\nname = "r{0}"\narchitectures = {1}\nsm = ["{0}.0"]\nbackend = "triton"\n'


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("#" * 300_000, "at most 0.256 MB of TOML"),
        (AFTER + RULE.format(0, NAMES), "at most 200 items"),
        (
            AFTER + "".join(RULE.format(i, f'["A{i}", "B{i}", "C{i}"]') for i in range(90)),
            "at most 200 architectures",
        ),
        (AFTER.replace('["decode", "extend"]', "[" + '"decode", ' * 20_000 + "]"), "at most 50000 required cells"),
    ],
)
def test_a_policy_of_any_size_is_answered_at_once(text: str, allowed: str) -> None:
    started = time.perf_counter()
    with pytest.raises(InvalidInputError) as caught:
        parse_policy(text, "p")
    assert time.perf_counter() - started < 5
    assert allowed in str(caught.value)
