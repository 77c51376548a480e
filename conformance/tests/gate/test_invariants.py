"""What no run can have written is refused by every reader, though a forger sealed it; a report says why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from attnconf.cli import main as cli
from attnconf.gate.invariants import OF_CELLS, OF_RECEIPTS, cell_contradictions, contradictions
from attnconf.gate.plans.fleet import parse_fleet
from attnconf.gate.plans.fleet_plan import plan_fleet
from attnconf.gate.receipt import UNFINISHED, Receipt, begun_receipt
from attnconf.gate.verify import Terms, verify
from attnconf.policy.policy import parse_policy
from conformance.tests.support.gate_receipts import receipt_of
from conformance.tests.support.gate_repository import AFTER, FLEET
from conformance.tests.support.receipts import a_failure

if TYPE_CHECKING:
    from pathlib import Path

POLICY = parse_policy(AFTER, "after")
PLAN = plan_fleet(POLICY, parse_fleet(FLEET, "fleet"), "0" * 40)
NONE = [0] * 11

PLAYED = {
    "backend": "triton",
    "model": "free",
    "memory": "own",
    "broken": {"clause": 22, "said": "page 1 is lost", "story": ["a batch runs"], "replay": "attnconf machine"},
}
RECEIPTS: list[tuple[str, dict[str, Any]]] = [
    ("it ran at a time", {"started": "9999-99-99T99:99:99+99:99"}),
    ("it ran at a time", {"started": "2025-02-30T00:00:00Z"}),
    ("it ran at a time", {"seconds": 1e300}),
    ("it ran in the past", {"started": "2099-01-01T00:00:00+00:00"}),
    ("it ran in the past", {"seconds": 1e10}),
    ("green has no failures", {"failures": [a_failure().to_data()]}),
    ("green breaks no clause of serving", {"played": [PLAYED]}),
    ("green has no complaints", {"complaints": ["test_it was run again"]}),
    ("begun has no end", {"state": "begun", "cells": []}),
    ("begun has no evidence", {"state": "begun", "exit_status": None}),
    ("running takes time", {"seconds": 0}),
    ("layers are of cases", {"cases": 0}),
    ("layers are of cases", {"cases": 10**6}),
]
CELLS: list[tuple[str, dict[str, Any]]] = [
    ("green is unbroken", {"crashed": 1}),
    ("a sealed receipt has histograms", {"histogram": []}),
    ("a judged layer has an error", {"worst_units": None}),
    ("an error above the bound failed", {"worst_units": 77.0}),
    ("a passed layer is within the bound", {"histogram": NONE}),
    ("a histogram counts each judged layer", {"evidence": "contract", "executed": 4, "passed": 0, "contract_only": 4}),
    ("the worst error stands in the histogram", {"worst_units": 0.95}),
]


def forged(fields: dict[str, Any], cell: dict[str, Any]) -> Receipt:
    """Return the receipt of a right run with some fields changed, and some of its first cell, sealed again."""
    data = receipt_of(PLAN, "b200").to_data()
    data["cells"][0] |= cell
    receipt = Receipt.from_data({**data, **fields, "digest": None}, "test")
    return receipt.model_copy(update={"digest": receipt.identity})


def test_a_right_receipt_contradicts_nothing() -> None:
    for receipt in (forged({}, {}), begun_receipt("2025-01-22T22:12:57+00:00", "3.12.3")):
        assert not [*contradictions(receipt), *cell_contradictions(receipt)]


def test_each_invariant_is_tried() -> None:
    tried = {name for name, _ in (*RECEIPTS, *CELLS)} | {"a cell is counted once"}
    assert tried == {one.name for one in (*OF_RECEIPTS, *OF_CELLS)}


@pytest.mark.parametrize(
    ("name", "fields", "cell"),
    [*((name, fields, {}) for name, fields in RECEIPTS), *((name, {}, cell) for name, cell in CELLS)],
)
def test_what_contradicts_itself_is_refused(
    name: str, fields: dict[str, Any], cell: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    receipt, path = forged(fields, cell), tmp_path / "r.json"
    receipt.write(path)
    broken = [one.name for one in OF_RECEIPTS if not one.holds(receipt)]
    broken += [one.name for one in OF_CELLS if any(not one.holds(cell) for cell in receipt.cells)]
    assert name in broken
    sentences = [*contradictions(receipt), *cell_contradictions(receipt)]
    found = verify(POLICY, PLAN, {"r.json": receipt}, Terms()).findings
    if receipt.state == "finished":
        assert all(any(sentence in one.sentence for one in found) for sentence in sentences)
    assert any(one.kind in {"contradictory", "not executed"} for one in found)
    for command in (["matrix", str(path)], ["picture", str(path), "-o", str(tmp_path / "r.png")]):
        assert cli.main(command) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert cli.main(["report", str(path)]) == 0
    assert (sentences[0] if receipt.state == "finished" else UNFINISHED) in capsys.readouterr().out


def test_a_cell_that_stands_twice_is_refused() -> None:
    data = receipt_of(PLAN, "b200").to_data()
    data["cells"].append(data["cells"][0])
    receipt = Receipt.from_data({**data, "digest": None}, "test")
    assert list(contradictions(receipt)) == ["counts the layers of one cell in two places"]


def test_every_reader_says_that_a_run_has_not_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begun, path = begun_receipt("2025-01-22T22:12:57+00:00", "3.12.3"), tmp_path / "r.json"
    begun.write(path)
    for allowed in (frozenset[str](), frozenset({"r.json"})):
        first, *missing = verify(POLICY, PLAN, {"r.json": begun}, Terms(unsealed=allowed)).findings
        assert (first.kind, first.sentence) == ("red", f"r.json: {UNFINISHED}")
        assert {one.kind for one in missing} == {"missing"}
    for command in (["matrix", str(path)], ["picture", str(path), "-o", str(tmp_path / "r.png")]):
        assert cli.main(command) == 2
        assert capsys.readouterr().err == f"attnconf: {path}: {UNFINISHED}\n"
    page, summary = tmp_path / "r.html", tmp_path / "r.md"
    assert cli.main(["report", str(path), "--html", str(page), "--md", str(summary), "--format", "github"]) == 0
    assert capsys.readouterr().out == f"::error title=attnconf%3A not met::r.json: {UNFINISHED}\n"
    assert all("The run has not finished, so nothing is proven" in one.read_text() for one in (page, summary))
    assert cli.main(["merge", str(path), str(path), "-o", str(tmp_path / "merged.json")]) == 0


def test_a_begun_run_beside_a_finished_one_is_not_met(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begun_receipt("2025-01-22T22:12:57+00:00", "3.12.3").write(tmp_path / "begun.json")
    receipt_of(PLAN, "b200").write(tmp_path / "b200.json")
    (tmp_path / "policy.toml").write_text(AFTER)
    files = [str(tmp_path / name) for name in ("begun.json", "b200.json")]
    assert cli.main(["report", *files, "--policy", str(tmp_path / "policy.toml")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("1 requirement not met\n")
    assert f"NOT MET: begun.json: {UNFINISHED}" in out
