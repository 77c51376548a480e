"""The receipt: what the shipped schema says, and nothing that did not happen."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import jsonschema
import pytest

from attnconf_fixtures import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.cases.case import Case
    from attnconf.gate.receipt import Receipt

    Inner = Callable[..., pytest.RunResult]

pytest_plugins = ["pytester"]


def test_it_is_valid_by_the_shipped_schema(replay: Inner, pytester: pytest.Pytester, policy: str) -> None:
    backends = ("good", "wrong", "nan", "raises", "memory", "refuses", "missing", "picky", "paper")
    options = [f"--attnconf-backend={name}" for name in backends]
    replay(*options, f"--attnconf-policy={policy}", "--attnconf-receipt=deep/r.json")
    data = json.loads((pytester.path / "deep" / "r.json").read_text())
    schema = json.loads((ROOT / "schema" / "receipt-3.json").read_text())
    jsonschema.validate(data, schema, cls=jsonschema.Draft202012Validator)
    counts = ("passed", "failed", "crashed", "oom", "refused", "not_run", "unsupported", "contract_only")
    assert {cell["backend"]: [name for name in counts if cell[name]] for cell in data["cells"]} == {
        "good": ["passed"],
        "wrong": ["failed"],
        "nan": ["failed"],
        "raises": ["crashed"],
        "memory": ["oom"],
        "refuses": ["refused"],
        "missing": ["not_run"],
        "picky": ["unsupported"],
        "paper": ["contract_only"],
    }
    assert next(cell for cell in data["cells"] if cell["backend"] == "nan")["worst_units"] == "inf"
    assert (data["profile"], data["seed"], data["policy"]["name"]) == ("replay", 0, "toy")
    assert data["seconds"] > 0


def test_it_keeps_the_smallest_failing_case_and_its_replay(replay: Inner, receipt: Receipt, toy_case: Case) -> None:
    replay("--attnconf-backend=wrong", "--attnconf-backend=good", "--attnconf-receipt=r.json")
    (failed,) = receipt.failures
    assert (failed.backend, failed.case) == ("wrong", toy_case)
    assert failed.worst_units is not None
    assert failed.worst_units > 1
    assert failed.text.startswith("wrong fails case")
    assert f"{toy_case.id}-wrong.json" in failed.replay


def test_the_schema_refuses_a_receipt_without_evidence_fields(replay: Inner, pytester: pytest.Pytester) -> None:
    replay("--attnconf-backend=good", "--attnconf-receipt=r.json")
    data = json.loads((pytester.path / "r.json").read_text())
    del data["cells"][0]["executed"]
    schema = json.loads((ROOT / "schema" / "receipt-3.json").read_text())
    with pytest.raises(jsonschema.ValidationError, match="executed"):
        jsonschema.validate(data, schema)


def test_it_says_why_git_names_no_commit(
    replay: Inner, receipt: Receipt, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pytester.path / ".git").mkdir()
    monkeypatch.setenv("PATH", str(pytester.path))
    result = replay("--attnconf-backend=good", "--attnconf-receipt=r.json")
    assert result.ret == 0
    assert receipt.git_sha is None
    result.stdout.fnmatch_lines(["receipt: r.json, of no commit: git is not installed"])


def test_the_seed_is_recorded_and_decides(inner: Inner, receipt: Receipt, toy_model: str) -> None:
    suite = ("--pyargs", "attnconf.suite", f"--attnconf-model={toy_model}", "--attnconf-backend=good")

    def cells(*options: str) -> object:
        assert inner(*suite, "--attnconf-receipt=r.json", "-k", "test_mixed", *options).ret == 0
        return receipt.cells

    once = cells("--attnconf-profile=smoke", "--attnconf-seed=5")
    assert receipt.seed == 5
    agenda = receipt.agenda
    assert agenda is not None
    assert cells("--attnconf-profile=smoke", "--attnconf-seed=5") == once
    assert cells("--attnconf-profile=smoke", "--attnconf-seed=6") != once
    assert cells("--attnconf-profile=smoke") != once
    assert receipt.seed == 0


def test_a_nightly_run_takes_its_seed_from_the_clock(inner: Inner, receipt: Receipt, toy_case: object) -> None:
    del toy_case
    suite = ("--pyargs", "attnconf.suite", "--attnconf-replay=case.json", "--attnconf-backend=good", "-k", "vectors")
    assert inner(*suite, "--attnconf-profile=nightly", "--attnconf-receipt=r.json").ret == 0
    assert receipt.seed > 1_700_000_000


def test_a_test_that_changes_directory_moves_neither_receipt_nor_failures(
    inner: Inner, pytester: pytest.Pytester, toy_case: Case
) -> None:
    (pytester.path / "other").mkdir()
    pytester.makepyfile(
        test_mine=f"""
        import os
        from attnconf import Case

        def test_it(attnconf):
            os.chdir("other")
            attnconf.check(Case.model_validate({toy_case.to_data()!r}), backend="wrong")
    """
    )
    assert inner("test_mine.py", "--attnconf-receipt=r.json").ret == 1
    assert (pytester.path / "r.json").exists()
    assert list((pytester.path / "attnconf-failures").glob("*-wrong.json"))


def test_a_test_of_the_suite_that_ends_without_a_verdict_counts_as_crashed(
    inner: Inner, receipt: Receipt, toy_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object, **_options: object) -> None:
        message = "a fault of attnconf's own"
        raise ZeroDivisionError(message)

    monkeypatch.setattr("attnconf.running.judge.Judge.explore", broken)
    options = ("--attnconf-profile=smoke", f"--attnconf-model={toy_model}", "--attnconf-backend=good")
    result = inner("--pyargs", "attnconf.suite", *options, "-k", "test_decode", "--attnconf-receipt=r.json")
    assert result.ret == 1
    assert {cell.mode for cell in receipt.cells} == {"decode"}
    assert all(cell.crashed and cell.backend == "good" for cell in receipt.cells)
    reason = next(iter(receipt.cells[0].reasons))
    assert "test_decode[good-toy.json] ended without a verdict" in reason


def test_a_fault_that_hits_the_count_too_stays_one_failed_test(
    inner: Inner, receipt: Receipt, toy_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object, **_options: object) -> None:
        message = "a fault of attnconf's own"
        raise ZeroDivisionError(message)

    monkeypatch.setattr("attnconf.cases.drawing.drawn.space_of", broken)
    options = ("--attnconf-profile=smoke", f"--attnconf-model={toy_model}", "--attnconf-backend=good")
    result = inner("--pyargs", "attnconf.suite", *options, "-k", "test_decode", "--attnconf-receipt=r.json")
    assert result.ret == 1
    result.assert_outcomes(failed=1)
    assert receipt.cells == ()
    assert receipt.agenda is None
