"""Every shipped mutant is wrong, by the clause that it names; each check has a mutant that nothing else catches."""

from __future__ import annotations

import json
import pickle
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from attnconf.backends import reference
from attnconf.cases.case import Case
from attnconf.cases.drawing.profiles import profile_named
from attnconf.cases.inputs.batch import Batch
from attnconf.cases.request import Request
from attnconf.cli import main as cli
from attnconf.cli.statuses import EXIT_INTERRUPTED
from attnconf.judging.checks import numerics
from attnconf.judging.checks.catalogue import CHECKS, all_checks
from attnconf.judging.checks.graphs import CHECK_NAME as GRAPH_CHECK
from attnconf.judging.checks.graphs import replayed
from attnconf.judging.checks.refusal import CHECK_NAME as REFUSAL_CHECK
from attnconf.judging.posed import PosedCase
from attnconf.judging.result import CaseResult
from attnconf.judging.run import run_case
from attnconf.judging.trial import Trial
from attnconf.mutants import registry
from attnconf.mutants.memory import SCRATCHED
from attnconf.mutants.merge import SMALLER
from attnconf.mutants.mutant import Mutant, under_name
from attnconf.mutants.registry import MUTANTS, mutant_named
from attnconf.mutants.small_cases import SLIDING, ask
from attnconf.mutants.source import Edit, Edited, StaleEditError, edited
from attnconf.platforms import detect
from attnconf.running.agenda import agenda
from attnconf.running.campaigns import hunt
from attnconf.running.campaigns.hunt import broken_clauses, first_clause
from attnconf.running.session import Session

CATALOGUE = (
    *("M01", "M02", "M04", "M05", "M06", "M07", "M08", "M09", "M10", "M13", "M14", "M15", "M16", "M18", "M20", "M21"),
    *("M22", "M23", "M25", "M27", "M28", "M30", "M31", "M33", "M34", "M35", "M37", "M38"),
)
"""The ids of the catalogue of distilled mutants."""

OTHERS_FIRST = {"merge-reads-empty-splits"}
"""The mutants on whose proof another clause is cited before that of the fault."""

MISCITED = 0.05
"""The largest share of them."""

FEW = 6
"""Drawn cases, some of which a query that sees a key too many gets wrong."""

HUNTED = [mutant for mutant in MUTANTS if not mutant.needs_gpu]


@cache
def smoke() -> Session:
    """Return the session of this machine that every test shares; collecting the tests looks for no GPU."""
    return Session(platform=detect(), profile=profile_named("smoke"))


def judged(make: Callable, case: Case) -> CaseResult:
    """Run ``case`` through every check, and where nothing of it is supported, through the probe of refusals."""
    smoke().registry.register("mutant", lambda platform: under_name(make(platform), "mutant"))
    backend = make(smoke().platform)
    # Which features mattered is no part of the verdict.
    result = run_case(case, backend, smoke().platform, smoke().device, choose=all_checks, count_effects=False)
    if any(layer.outcome.is_executed or layer.outcome.is_failure for layer in result.layers):
        return result
    session = Session(platform=smoke().platform, profile=smoke().profile)
    session.registry.register("mutant", lambda platform: under_name(make(platform), "mutant"))
    return session.probe(case, "mutant")


@cache
def proven(name: str) -> CaseResult:
    mutant = mutant_named(name)
    return judged(mutant.make, mutant.proof)


@pytest.mark.parametrize("mutant", HUNTED, ids=lambda mutant: mutant.id)
def test_a_mutant_is_wrong_on_its_proof_by_its_clause(mutant: Mutant) -> None:
    result = proven(mutant.id)
    assert mutant.clause in broken_clauses(result), result.layers
    assert (first_clause(result) != mutant.clause) == (mutant.id in OTHERS_FIRST), result.failures


def test_the_clause_of_the_fault_is_cited_first_in_nearly_all() -> None:
    assert {mutant.id for mutant in HUNTED} >= OTHERS_FIRST
    assert len(OTHERS_FIRST) <= MISCITED * len(HUNTED)


@cache
def right_result(right: Edited, proof: str) -> CaseResult:
    return judged(right, Case.model_validate_json(proof))


@pytest.mark.parametrize("mutant", HUNTED, ids=lambda mutant: mutant.id)
def test_without_its_edits_the_implementation_is_right_on_the_proof(mutant: Mutant) -> None:
    assert isinstance(mutant.make, Edited)
    right = replace(mutant.make, edits=tuple(edit for edit in mutant.make.edits if edit in (*SMALLER, *SCRATCHED)))
    result = right_result(right, json.dumps(mutant.proof.to_data()))
    assert not result.is_failure, result.failures


TABLE = {
    check: ([int(clause) for clause in clauses.split(", ")], name, summary)
    for check, clauses, name, summary in re.findall(
        r"^\| `(\w+)` \| ([\d, ]+) \| `([\w-]+)`: (.+) \|$",
        (Path(__file__).parents[2] / "CONTRACT.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
}
"""The contract's table of checks: the clauses of each, and a mutant that it alone catches."""


def test_the_contract_names_for_each_check_a_mutant_that_only_it_catches() -> None:
    judged_by = {check.name: list(check.clauses) for check in CHECKS} | {REFUSAL_CHECK: [20]}
    assert {check: clauses for check, (clauses, _, _) in TABLE.items()} == judged_by
    assert {name: mutant_named(name).summary for _, name, _ in TABLE.values()} == {
        name: summary for _, name, summary in TABLE.values()
    }


# Clause 16 is judged on a GPU only: a test below catches its mutants with a stand-in for the capture.
@pytest.mark.parametrize("check", sorted({check.name for check in CHECKS} - {GRAPH_CHECK} | {REFUSAL_CHECK}))
def test_without_its_check_nothing_catches_that_mutant(check: str) -> None:
    mutant = mutant_named(TABLE[check][1])
    assert {failure.check for failure in proven(mutant.id).failures} == {check}
    others = tuple(one for one in CHECKS if one.name != check)
    backend = mutant.make(smoke().platform)
    found = run_case(
        mutant.proof, backend, smoke().platform, smoke().device, choose=lambda _: others, count_effects=False
    )
    assert not found.is_failure
    assert found.layers


@pytest.mark.parametrize("mutant", [one for one in MUTANTS if one.needs_gpu], ids=lambda mutant: mutant.id)
def test_a_mutant_of_replays_is_caught_when_what_was_captured_runs_again(mutant: Mutant) -> None:
    def rerun(launch: Callable[[], str]) -> tuple[Callable[[], object], str]:
        name = launch()
        return launch, name

    trial = Trial(PosedCase(mutant.proof, smoke().device), mutant.make(smoke().platform), smoke().platform)
    for layer in range(len(mutant.proof.layers)):
        trial.base(layer)
        assert trial.base_units(layer, 0) <= 1.0
    failures = [failure for layer in trial.answered for failure in replayed(trial, layer, rerun)]
    assert [failure.clause for failure in failures] == [mutant.clause]


def test_the_corpus_covers_its_catalogue_and_every_clause() -> None:
    assert len(HUNTED) >= 60
    assert len({mutant.id for mutant in MUTANTS}) == len(MUTANTS)
    assert {known for mutant in MUTANTS for known in mutant.catalogue} == set(CATALOGUE)
    assert {mutant.clause for mutant in MUTANTS} == set(range(1, 21))
    assert all(
        "#" in mutant.bug or mutant.bug in {"none filed", *(f"catalogue {known}" for known in CATALOGUE)}
        for mutant in MUTANTS
    )


def test_a_mutant_is_a_value_that_another_process_can_have() -> None:
    for mutant in MUTANTS:
        assert pickle.loads(pickle.dumps(mutant)) == mutant  # noqa: S301 - our own bytes


def test_an_edit_that_the_source_does_not_have_fails_by_name() -> None:
    with pytest.raises(StaleEditError, match="reference has 'no such line' 0 times; the edit was written for 1"):
        edited("reference", Edit("no such line", ""))(smoke().platform)
    with pytest.raises(StaleEditError, match=r"attnconf.backends.triton.kernel has 'tl.load' \d+ times"):
        edited("triton", Edit("tl.load", "", "triton.kernel"))(smoke().platform)


def test_making_a_mutant_leaves_the_implementation_alone() -> None:
    before = reference.ReferenceBackend
    made = mutant_named("window-one-more").make(smoke().platform)
    assert sys.modules["attnconf.backends.reference"] is reference
    assert reference.ReferenceBackend is before
    assert type(made).__name__ == before.__name__
    assert not isinstance(made, before)
    found = [
        run_case(ask("decode", SLIDING), backend, smoke().platform, smoke().device, choose=all_checks)
        for backend in (before(), made)
    ]
    assert [one.is_failure for one in found] == [False, True]


@pytest.mark.parametrize(("name", "window"), [("window-short-in-decode", 32_766), ("causal-strict", -1)])
def test_one_key_in_32768_is_caught_in_one_case(name: str, window: int) -> None:
    layer = SLIDING.model_copy(update={"window_left": window} if window >= 0 else {"window_left": -1, "kind": "full"})
    case = ask("decode", layer, requests=(Request(prefix_len=32_767),), q_dtype="bfloat16", kv_dtype="bfloat16")
    mutant = mutant_named(name)
    backend = mutant.make(smoke().platform)
    found = run_case(
        case, backend, smoke().platform, smoke().device, choose=lambda _: (numerics.CHECK,), count_effects=False
    )
    assert mutant.clause in broken_clauses(found)


@pytest.mark.parametrize("lost", [12_345, 31_000])
def test_the_loss_of_any_key_of_32768_shows_in_one_float32_case(lost: int) -> None:
    make = edited("reference", Edit("(keys > positions)", f"((keys > positions) | (keys == {lost}))"))
    case = ask("decode", requests=(Request(prefix_len=32_767),), seed=4)
    backend = make(smoke().platform)
    found = run_case(case, backend, smoke().platform, smoke().device, choose=lambda _: (numerics.CHECK,), explain=False)
    assert found.is_failure


def run(*arguments: str) -> int:
    try:
        return cli.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)


def test_the_command_reports_each_mutant_and_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attnconf.running.campaigns.hunt.SHRINK_SECONDS", 60.0)  # a loaded machine shrinks slowly
    path = tmp_path / "mutants.json"
    only = ("--only", "window-one-more", "--only", "graph-keeps-table", "--only", "empty-row-is-nan")
    status = run("mutants", "--profile", "smoke", *only, "--seed", "2", "--jobs", "1", "--json", str(path))
    out = capsys.readouterr().out
    assert status == 0
    assert "caught  window-one-more" in out
    assert "clause 2 (window)" in out
    assert "2 of 2 mutants caught by their clause, median" in out
    assert "not run graph-keeps-table" in out
    data = json.loads(path.read_text(encoding="utf-8"))
    assert (data["caught"], data["total"]) == (2, 2)
    assert [one["id"] for one in data["not_run"]] == ["graph-keeps-table"]
    window = data["mutants"][0]
    assert {key: window[key] for key in ("id", "bug", "clause", "caught", "check")} == {
        "id": "window-one-more",
        "bug": "huggingface/transformers#39408",
        "clause": 2,
        "caught": True,
        "check": "numerics",
    }
    assert window["first_clause"] in {2, 6}  # a key too many, or what lies in its slot
    assert 1 <= window["cases"] <= 20
    assert window["seconds"] > 0
    smallest = Case.model_validate(window["case"])
    assert smallest.max_kv_len <= 4
    assert len(smallest.layers) <= 2  # of one alone, this short, more than one mistake would be told
    assert 2 in broken_clauses(judged(mutant_named("window-one-more").make, smallest))


def test_one_that_escapes_is_said_and_fails_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = replace(mutant_named("window-one-more"), id="right", make=edited("reference"))
    elsewhere = replace(mutant_named("window-one-more"), id="elsewhere", clause=18)
    monkeypatch.setattr(registry, "MUTANTS", (right, elsewhere))
    monkeypatch.setattr(hunt, "agenda", lambda session: agenda(session)[:FEW])  # all of it is asked of one that escapes
    assert run("mutants", "--profile", "smoke", "--model", "free", "--jobs", "1") == 1
    right_line, elsewhere_line, summary = capsys.readouterr().out.splitlines()
    assert right_line.startswith("MISSED  right")
    assert "caught by nothing" in right_line
    assert elsewhere_line.startswith("MISSED  elsewhere")
    assert re.search("caught by clause [26] instead", elsewhere_line)
    assert summary == "0 of 2 mutants caught by their clause"


def test_hunts_that_are_ended_write_what_was_caught_until_then(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = "window-one-more", "empty-row-is-nan"

    def ended_in_the_second(_orders: hunt.Orders, name: str) -> hunt.Catch:
        if name == second:
            raise KeyboardInterrupt
        return hunt.Catch(id=name, bug="none", clause=mutant_named(name).clause, caught=True, check="numerics", cases=1)

    monkeypatch.setattr(hunt, "hunt_named", ended_in_the_second)
    path = tmp_path / "mutants.json"
    assert run("mutants", "--only", first, "--only", second, "--jobs", "1", "--json", str(path)) == EXIT_INTERRUPTED
    data = json.loads(path.read_text(encoding="utf-8"))
    assert ([one["id"] for one in data["mutants"]], data["interrupted"]) == ([first], True)
    assert "interrupted: 1 of 2 mutants were not hunted" in capsys.readouterr().out


def test_a_mutant_needs_no_more_than_its_value(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = Mutant(
        id="mine",
        summary="a query sees one key less",
        clause=1,
        make=edited("reference", Edit("(keys > positions)", "(keys > positions - 1)")),
        proof=ask("decode"),
    )
    monkeypatch.setattr(registry, "MUTANTS", (*MUTANTS, mine))
    monkeypatch.setattr(hunt, "SHRINK_SECONDS", 1.0)  # that it gets small, the test of the command shows
    assert run("mutants", "--profile", "smoke", "--model", "free", "--only", "mine", "--jobs", "1", "--shrink") == 0
    out = capsys.readouterr().out
    assert "none filed: a query sees one key less" in out
    assert "Case(mode=" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--only", "nope"), "attnconf: --only: 'nope'; allowed: window-short-in-decode, "),
        (("--jobs", "0"), "attnconf: --jobs: 0; allowed: 1 or more"),
        (("--model", "nope"), "attnconf: model: 'nope'; allowed: "),
    ],
)
def test_bad_input_is_one_sentence(arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("mutants", "--profile", "smoke", *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(said)
    assert captured.err.count("\n") == 1


def test_without_its_library_a_mutant_is_not_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def without(platform: object) -> object:
        del platform
        return detect().model_copy(update={"packages": {}})

    monkeypatch.setattr("attnconf.running.campaigns.hunt.detect", lambda: without(None))
    monkeypatch.setattr("attnconf.running.campaigns.hunt._hunters", {})
    assert run("mutants", "--profile", "smoke", "--only", "call-own-scales", "--jobs", "1") == 3
    out = capsys.readouterr().out
    assert "not run call-own-scales" in out
    assert "flashinfer-python" in out


def test_any_harness_can_run_a_mutant() -> None:
    """A peer's test calls ``make``, prepares a batch of its own, and looks at the output."""
    import torch

    case = ask("decode", SLIDING)
    posed = PosedCase(case, smoke().device)
    batch: Batch = posed.batch
    outputs = []
    for make in (mutant_named("window-one-more").make, reference.make):
        out = torch.empty_like(batch.layers[0].q)
        make(smoke().platform).prepare(batch).run(0, out, None)
        outputs.append(out)
    assert not torch.equal(*outputs)
