"""Cells and receipts: counting, merging, and what is written."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnconf.cases.case import Case, Layer
from attnconf.cases.request import Request
from attnconf.clauses import Clause
from attnconf.errors import InvalidInputError
from attnconf.gate.cells import Cell, merge_cells, tally
from attnconf.gate.evidence import evidence_of, parse_evidence, receipts_of
from attnconf.gate.failed_case import FailedCase, failed_case
from attnconf.gate.receipt import PolicyRef, Receipt, record_platform
from attnconf.gate.sealed import TamperedError, seal
from attnconf.judging.result import CaseResult, Failure, LayerResult, Outcome
from attnconf.judging.units import EDGES, unit_bin
from attnconf.platforms import Platform, simulate
from attnconf.policy.policy import load_policy
from attnconf.report.compose import compose

if TYPE_CHECKING:
    from pathlib import Path

    from attnconf.backends.protocol import EvidenceKind

ZERO = dict.fromkeys(
    ["executed", "passed", "failed", "unsupported", "refused", "crashed", "oom", "not_run", "contract_only"], 0
)
KEY = {
    "backend": "b",
    "model": "m",
    "layer_kind": "full",
    "mode": "decode",
    "q_dtype": "float16",
    "kv_dtype": "float16",
}


def make_cell(**fields: Any) -> Cell:  # noqa: ANN401 - any field
    data = {**KEY, **ZERO, "features": [], "worst_units": None, "reasons": {}, **fields}
    return Cell.from_data(data, "test")


counts = st.integers(0, 5)
reasons = st.dictionaries(st.sampled_from(["not_run: no GPU", "unsupported: head_dim", "oom: "]), st.integers(1, 5))
units = st.none() | st.floats(0, 1e6) | st.just(math.inf)


@st.composite
def cells(draw: st.DrawFn) -> Cell:
    judged, failed, evidence = draw(counts), draw(counts), draw(st.sampled_from(["kernel", "contract"]))
    return make_cell(
        backend=draw(st.sampled_from(["a", "b"])),
        layer_kind=draw(st.sampled_from(["full", "sliding-shared"])),
        evidence=evidence,
        passed=judged * (evidence == "kernel"),
        failed=failed,
        contract_only=judged * (evidence == "contract"),
        executed=judged + failed,
        not_run=draw(counts),
        oom=draw(counts),
        features=sorted(draw(st.sets(st.sampled_from(["gqa", "paging", "window"])))),
        worst_units=draw(units),
        reasons=draw(reasons),
        histogram=draw(st.sampled_from([[], [0] * 10 + [failed], [judged] + [0] * 9 + [failed]])),
    )


lists = st.lists(cells(), max_size=4)


@given(lists, lists)
def test_merging_commutes(a: list[Cell], b: list[Cell]) -> None:
    assert merge_cells(a, b) == merge_cells(b, a)


@given(lists, lists, lists)
def test_merging_associates(a: list[Cell], b: list[Cell], c: list[Cell]) -> None:
    assert merge_cells(merge_cells(a, b), c) == merge_cells(a, merge_cells(b, c))


@given(lists)
def test_merging_with_nothing_changes_nothing_but_order(a: list[Cell]) -> None:
    merged = merge_cells(a, [])
    assert merge_cells(merged, []) == merge_cells([], merged) == merged
    assert len({cell.key for cell in merged}) == len(merged)
    assert sum(cell.executed for cell in merged) == sum(cell.executed for cell in a)


@given(lists)
def test_cells_survive_json(a: list[Cell]) -> None:
    for cell in a:
        text = json.dumps(cell.model_dump(mode="json"), allow_nan=False)
        assert Cell.from_data(json.loads(text), "test") == cell


def test_unlike_cells_do_not_add() -> None:
    with pytest.raises(ValueError, match="cells of different keys do not add"):
        make_cell() + make_cell(backend="c")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"executed": 3, "passed": 2}, "executed is 3, but passed"),
        ({"worst_units": math.nan}, "worst_units"),
        ({"worst_units": -1}, "worst_units"),
        ({"worst_units": "big"}, "worst_units"),
        ({"evidence": "hearsay"}, "evidence"),
        ({"executed": 1, "contract_only": 1}, "evidence is kernel, but 1 layer is counted as contract_only"),
        (
            {"executed": 1, "passed": 1, "evidence": "contract"},
            "evidence is contract, but 1 layer is counted as passed",
        ),
        ({"backend": "b[contract]"}, "backend ends in"),
        ({"passed": -1}, "passed"),
        ({"passed": True}, "passed"),
        ({"features": ["b", "a"]}, "features are not sorted"),
        ({"layer_kind": "linear"}, "layer_kind"),
        ({"skipped": 1}, "skipped"),
        ({"executed": 1, "passed": 1, "histogram": [1] * 3}, "histogram"),
        ({"histogram": [1] + [0] * 10}, "histogram"),
    ],
)
def test_a_wrong_cell_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        make_cell(**fields)


SLIDING = Layer(kind="sliding", window_left=511, num_qo_heads=2, num_kv_heads=1, head_dim=256, sm_scale=1.0)
CASE = Case(
    mode="decode",
    model="gemma4-e2b@tp4",
    layers=(SLIDING, SLIDING.model_copy(update={"kv_owner": 0})),
    requests=(Request(prefix_len=3),),
)


def result(*layers: LayerResult) -> CaseResult:
    return CaseResult(case=CASE, backend="triton", evidence="kernel", layers=layers)


def test_tally() -> None:
    results = [
        result(
            LayerResult(layer=0, outcome=Outcome.PASSED, worst_units=0.25, effective=("window", "gqa")),
            LayerResult(layer=1, outcome=Outcome.PASSED, worst_units=0.5, effective=("shared_kv",)),
        ),
        result(
            LayerResult(layer=0, outcome=Outcome.PASSED, worst_units=0.125, effective=("paging",)),
            LayerResult(layer=1, outcome=Outcome.FAILED, worst_units=math.nan, effective=("window",)),
        ),
        result(
            LayerResult(layer=0, outcome=Outcome.UNSUPPORTED, reason="head_dim 8", effective=("sinks",)),
            LayerResult(layer=1, outcome=Outcome.CRASHED, reason="IndexError\nlong trace"),
        ),
        result(LayerResult(layer=0, outcome=Outcome.UNSUPPORTED, reason="head_dim 8")),
    ]
    owning, shared = tally(results)
    assert (owning.layer_kind, owning.model, owning.mode) == ("sliding", "gemma4-e2b@tp4", "decode")
    assert (owning.executed, owning.passed, owning.unsupported) == (2, 2, 2)
    assert owning.features == ("gqa", "paging", "window")
    assert owning.worst_units == 0.25
    assert owning.histogram == (0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0)
    assert shared.histogram == (0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1)
    assert owning.reasons == {"unsupported: head_dim 8": 2}
    assert owning.broken == 0
    assert (shared.layer_kind, shared.executed, shared.passed, shared.failed) == ("sliding-shared", 2, 1, 1)
    assert shared.worst_units == math.inf
    assert shared.reasons == {"crashed: IndexError": 1}
    assert shared.broken == 2


@pytest.mark.parametrize(
    ("model", "change", "counts_for"),
    [
        ("gemma4-e2b@tp4", {}, "gemma4-e2b@tp4"),
        ("gemma4-e2b@tp4", {"k_scale": 0.5}, "gemma4-e2b@tp4"),
        ("gemma4-e2b@tp4", {"head_dim": 8}, "free"),
        ("gemma4-e2b@tp4", {"window_left": 3}, "free"),
        ("gemma4-e2b", {}, "free"),
        ("gemma4-e2b@tp3", {}, "free"),
        ("gemma4-31b@tp16", {}, "free"),
        ("their-own", {"head_dim": 8}, "their-own"),
    ],
)
def test_a_case_is_evidence_for_the_model_whose_layers_it_has(
    model: str, change: dict[str, object], counts_for: str
) -> None:
    case = CASE.model_copy(update={"model": model, "layers": (SLIDING.model_copy(update=change),)})
    passed = CaseResult(
        case=case, backend="b", evidence="kernel", layers=(LayerResult(layer=0, outcome=Outcome.PASSED),)
    )
    assert [cell.model for cell in tally([passed])] == [counts_for]


@pytest.mark.parametrize("degree", ["0", "3", "9" * 5000])
def test_a_shard_that_the_model_does_not_have_counts_as_free(degree: str) -> None:
    case = CASE.model_copy(update={"model": f"gemma4-e2b@tp{degree}"})
    (cell,) = tally(
        [CaseResult(case=case, backend="b", evidence="kernel", layers=(LayerResult(layer=0, outcome=Outcome.PASSED),))]
    )
    assert cell.model == "free"


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_is_counted_once(outcome: Outcome) -> None:
    evidence: EvidenceKind = "contract" if outcome is Outcome.CONTRACT_ONLY else "kernel"
    (cell,) = tally([replace(result(LayerResult(layer=0, outcome=outcome)), evidence=evidence)])
    assert {name: getattr(cell, name) for name in ZERO} == {
        **ZERO,
        outcome.value: 1,
        "executed": int(outcome.is_executed),
    }
    assert sum(cell.reasons.values()) == int(not outcome.is_executed)


def make_receipt() -> Receipt:
    platform = Platform(
        device="H100", sm=(9, 0), cuda="13.0", packages={"torch": "2.11.0", "flashinfer-python": "0.6.13"}
    )
    return Receipt(
        git_sha="0" * 40,
        platform=record_platform(platform, "3.12.1"),
        policy=PolicyRef(name="p", digest="d"),
        profile="gate",
        seed=0,
        started="2026-11-22T20:00:00+00:00",
        seconds=1.5,
        cells=(make_cell(passed=1, executed=1, worst_units=math.inf),),
        failures=(make_failed(),),
    )


def make_failed() -> FailedCase:
    wrong = Failure(clause=2, check="numerics", summary="out = 1", layer=0, units=math.nan)
    failed = LayerResult(layer=0, outcome=Outcome.FAILED, failures=(wrong,))
    return failed_case(result(failed), text="it fails", replay="attnconf replay x.json")


def test_a_failed_case_keeps_the_case_its_clauses_and_its_worst_error() -> None:
    failed = make_failed()
    assert (failed.case, failed.clauses, failed.worst_units) == (CASE, (2,), math.inf)
    crashed = failed_case(result(LayerResult(layer=0, outcome=Outcome.CRASHED)), text="", replay="")
    assert (crashed.clauses, crashed.worst_units) == ((20,), None)


@pytest.mark.parametrize(
    ("error", "index"), [(0.0, 0), (0.1, 0), (0.1001, 1), (1.0, 9), (1.001, 10), (math.inf, 10), (math.nan, 10)]
)
def test_the_bin_of_an_error_is_inside_the_bound_up_to_one_unit(error: float, index: int) -> None:
    assert unit_bin(error) == index
    assert len(EDGES) == 10


def test_a_receipt_of_the_first_schema_is_still_read() -> None:
    data = make_receipt().to_data()
    del data["failures"], data["cells"][0]["histogram"]
    del data["digest"], data["plan"], data["job"], data["platform"]["simulated"]
    del data["exit_status"], data["complaints"], data["state"], data["cases"], data["repeated"]
    old = Receipt.from_data({**data, "schema": "attnconf.receipt/1"}, "test")
    assert old.digest is None
    assert (old.failures, old.cells[0].histogram) == ((), ())
    assert (old.exit_status, old.ending) == (None, "")
    assert (old.state, old.cases, old.repeated) == ("finished", None, {})
    assert old.agenda is None
    assert old.to_data()["schema"] == "attnconf.receipt/3"


def test_a_contract_reading_of_an_older_receipt_was_part_of_a_name() -> None:
    data = {**make_receipt().to_data(), "spared": {"b[contract]": ["empty requests"]}}
    del data["providers"], data["failures"][0]["evidence"]
    data["failures"][0]["backend"] = "b[contract]"
    for cell in data["cells"]:
        del cell["evidence"]
    data["cells"][0] |= {"backend": "b[contract]", "executed": 1, "contract_only": 1, "passed": 0, "failed": 0}
    data = {**data, "schema": "attnconf.receipt/2"}
    data["digest"] = seal(data)
    old = Receipt.from_data(data, "test")
    assert (old.cells[0].backend, old.cells[0].evidence, old.cells[0].shown_backend) == ("b", "contract", "b[contract]")
    assert (old.failures[0].backend, old.failures[0].evidence) == ("b", "contract")
    assert old.spared == {"b": ("empty requests",)}
    assert old.providers == {}
    merged = evidence_of([old]).to_data()  # written in the new schema, it is under a digest of its own
    assert receipts_of(parse_evidence(json.dumps(merged), "test")) == (old.renewed(),)
    with pytest.raises(TamperedError):
        Receipt.from_data({**data, "seed": 7}, "test")


@pytest.mark.parametrize("clause", [0, len(Clause) + 1, 999999])
def test_a_failed_case_cites_clauses_of_the_contract(clause: int) -> None:
    data = make_receipt().to_data()
    data["failures"][0]["clauses"] = [2, clause]
    with pytest.raises(InvalidInputError, match=f"failures.0.clauses.1 is {clause}; allowed: "):
        Receipt.from_data({**data, "digest": None}, "test")


def test_a_receipt_of_an_older_schema_keeps_a_digest_that_fits_when_it_is_merged(tmp_path: Path) -> None:
    data = {**make_receipt().to_data(), "schema": "attnconf.receipt/2", "digest": None}
    del data["state"], data["cases"], data["repeated"]
    old = Receipt.from_data({**data, "digest": seal(data)}, "test")
    evidence_of([old]).write(tmp_path / "merged.json")
    (read,) = receipts_of(parse_evidence((tmp_path / "merged.json").read_text(), "test"))
    assert read == old.renewed()


def test_a_receipt_that_cannot_be_written_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt, path = make_receipt(), tmp_path / "r.json"
    receipt.write(path)
    before = path.read_text()
    monkeypatch.setattr(type(path), "replace", full_disk)
    with pytest.raises(OSError, match="No space left"):
        receipt.model_copy(update={"seed": 1}).write(path)
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


def full_disk(*_arguments: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_receipt_is_written_whole_and_read_back(tmp_path: Path) -> None:
    receipt, path = make_receipt(), tmp_path / "r.json"
    receipt.write(path)
    data = json.loads(path.read_text())
    assert data.keys() == {
        "schema", "state", "attnconf", "git_sha", "platform", "policy", "plan", "job", "profile", "seed", "started",
        "seconds", "cells", "failures", "exit_status", "complaints", "spared", "cases", "repeated", "backend_seconds",
        "providers", "agenda", "listed", "asked", "played", "digest",
    }  # fmt: skip
    assert data["schema"] == "attnconf.receipt/3"
    assert data["platform"] == {
        "device": "H100", "sm": "9.0", "cuda": "13.0", "driver": None, "python": "3.12.1", "torch": "2.11.0",
        "triton": None, "flashinfer": "0.6.13", "flashinfer_cubin": None, "simulated": False,
    }  # fmt: skip
    assert data["cells"][0].keys() == Cell.model_fields.keys()
    assert data["cells"][0]["worst_units"] == "inf"
    assert Receipt.read(path) == receipt.model_copy(update={"digest": receipt.identity})
    assert list(tmp_path.iterdir()) == [path]
    jsonschema.validate(data, Receipt.model_json_schema(by_alias=True, mode="serialization"))


@pytest.mark.parametrize(
    "change",
    [
        {"started": "yesterday"},
        {"seconds": math.nan},
        {"schema": "attnconf.receipt/4"},
        {"state": "over"},
        {"exit_status": True},
    ],
)
def test_a_wrong_receipt_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        Receipt.from_data({**make_receipt().to_data(), **change}, "test")


def test_an_edit_of_any_field_is_noticed(tmp_path: Path) -> None:
    make_receipt().write(tmp_path / "r.json")
    data = json.loads((tmp_path / "r.json").read_text())
    assert data["digest"] == make_receipt().identity
    edits: dict[str, Any] = {
        "git_sha": "1" * 40,
        "seed": 1,
        "platform": {**data["platform"], "sm": "10.0"},
        "policy": {"name": "p", "digest": "e"},
        "plan": "2" * 64,
        "job": "b200",
        "cells": [],
        "failures": [],
    }
    for name, value in edits.items():
        with pytest.raises(TamperedError, match="edited after it was written"):
            Receipt.from_data({**data, name: value}, "test")
        assert Receipt.from_data({**data, name: value, "digest": None}, "test").digest is None
    with pytest.raises(InvalidInputError):
        Receipt.from_data({**data, "seconds": math.nan}, "test")


def test_a_simulated_machine_is_labelled_and_meets_no_policy() -> None:
    wanted = load_policy("sglang-gemma4")
    platform = simulate("10.0").model_copy(update={"packages": {"flashinfer-python": "0.6.13"}})
    cells = [
        make_cell(
            backend=one.backend, model=one.model, layer_kind=one.layer_kind, mode=one.mode,
            features=sorted(one.effective), executed=1, passed=1, worst_units=0.5,
        )
        for one in wanted.all_required
    ]  # fmt: skip
    real = make_receipt().model_copy(update={"cells": tuple(cells), "failures": ()})
    record = record_platform(platform, "3.12.1")
    for simulated, status in ((False, "met"), (True, "not met")):
        where = record.model_copy(update={"simulated": simulated})
        document = compose({"r.json": real.model_copy(update={"platform": where})}, wanted)
        assert document.status == status
        assert ("SIMULATED" in document.headline) is simulated
        assert ("SIMULATED" in document.sites[0].title) is simulated
