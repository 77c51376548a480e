"""What a backend does, in pytest's terms: nothing passes or fails in silence."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from attnconf.gate.cells import Cell, merge_cells
from conformance.tests.support.broken_packages import BROKEN, Site

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from attnconf.cases.case import Case
    from attnconf.gate.receipt import Receipt

    Inner = Callable[..., pytest.RunResult]

pytest_plugins = ["pytester"]


def test_a_right_backend_passes(replay: Inner, receipt: Receipt) -> None:
    result = replay("--attnconf-backend=good", "--attnconf-receipt=r.json")
    assert result.ret == 0
    assert set(result.parseoutcomes()) == {"passed", "deselected"}
    result.stdout.fnmatch_lines(["*1 case executed, 1 layer judged (0 of them by contract only), 0 broken"])
    assert [(cell.backend, cell.executed, cell.passed) for cell in receipt.cells] == [("good", 1, 1)]


def test_what_drawn_cases_come_without_is_said_and_kept_of_who_promises_less(
    inner: Inner, replay: Inner, receipt: Receipt, toy_model: str
) -> None:
    backends = ("--attnconf-backend=good", "--attnconf-backend=tender")
    suite = ("--pyargs", "attnconf.suite", "--attnconf-profile=smoke", f"--attnconf-model={toy_model}", "-kextend")
    result = inner(*suite, *backends, "--attnconf-receipt=r.json")
    words = ("nan, inf or huge keys in dead slots", "requests without query tokens")
    line = f"tender does not promise to bear {'; '.join(words)}: drawn cases come without"
    assert [text for text in result.outlines if text.startswith("tender does not")] == [line]
    assert receipt.spared == {"tender": words}
    assert not any(text.startswith("tender does not") for text in replay(*backends).outlines)


def test_what_is_not_judged_costs_no_text_of_its_arguments(inner: Inner, pytester: pytest.Pytester) -> None:
    """A session of a profile is a megabyte of text, which pytest would write for each test and the plugin drop."""
    pytester.makepyfile(
        """
        from pathlib import Path

        import pytest

        class Loud:
            def __repr__(self):
                Path("written").touch()
                return "loud"

        @pytest.fixture
        def loud():
            return Loud()

        def test_ours(attnconf, loud):
            attnconf.explore("decode", model="llama3-8b", backend="missing")

        def test_other(loud):
            raise ValueError("not ours")
        """
    )
    written = pytester.path / "written"
    result = inner("--attnconf-profile=smoke", "-k", "ours")
    assert result.parseoutcomes() == {"not_run": 1, "deselected": 1}
    assert not written.exists()
    result = inner("--attnconf-profile=smoke", "-k", "other")
    result.stdout.fnmatch_lines(["loud = loud", "*ValueError: not ours"])
    assert written.exists()


@pytest.mark.parametrize(
    ("backend", "outcome", "text"),
    [
        ("wrong", "failed", "*clause *"),
        ("nan", "failed", "*clause *"),
        ("raises", "crashed", "*RuntimeError: launch failed*"),
        ("memory", "oom", "*MemoryError: no room*"),
        ("exits", "crashed", "*SystemExit: 3*"),
        ("refuses", "refused", "*not today*"),
    ],
)
def test_a_bad_backend_fails_and_the_run_goes_on(
    replay: Inner, receipt: Receipt, backend: str, outcome: str, text: str
) -> None:
    result = replay(f"--attnconf-backend={backend}", "--attnconf-backend=good", "--attnconf-receipt=r.json")
    assert result.ret == 1
    outcomes = result.parseoutcomes()
    assert (outcomes["failed"], outcomes["passed"]) == (1, 1)
    result.stdout.fnmatch_lines([f"{backend} fails case *", text, "*replay: pytest -p attnconf *"])
    result.stdout.no_fnmatch_line("*Traceback*")
    bad = next(cell for cell in receipt.cells if cell.backend == backend)
    assert getattr(bad, outcome) == 1
    assert bad.broken == 1


def shown(lines: list[str]) -> list[str]:
    """Return the lines before pytest's summary, which repeats whole messages where it sees a CI."""
    summary = next((index for index, line in enumerate(lines) if "short test summary" in line), len(lines))
    return lines[:summary]


def test_a_failing_case_is_saved_and_replays_to_the_same_verdict(
    replay: Inner, inner: Inner, pytester: pytest.Pytester, toy_case: Case
) -> None:
    first = replay("--attnconf-backend=wrong", "--attnconf-failures=bad")
    saved = pytester.path / "bad" / f"{toy_case.id}-wrong.json"
    assert json.loads(saved.read_text()) == toy_case.to_data()
    command = next(line for line in first.outlines if "replay: pytest" in line).split("replay: pytest ")[1]
    again = inner(*command.replace("-p attnconf ", "").split())
    assert again.ret == 1
    verdicts = [
        [line for line in shown(run.outlines) if line.startswith(("  clause", "    error:", "    at:"))]
        for run in (first, again)
    ]
    assert len(verdicts[0]) == 3
    assert verdicts[0] == verdicts[1]


def test_a_folder_that_cannot_be_written_does_not_hide_the_failure(replay: Inner, pytester: pytest.Pytester) -> None:
    (pytester.path / "taken").write_text("a file")
    result = replay("--attnconf-backend=wrong", "--attnconf-failures=taken")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["wrong fails case *", "*could not be saved as *taken*"])


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        ("missing", "missing needs libfoo: pip install libfoo"),
        ("unloadable", "*no module named libbar*"),
        ("quits", "*ends the process*"),
    ],
)
def test_a_backend_that_does_not_load_is_not_run_with_the_reason(
    replay: Inner, receipt: Receipt, backend: str, reason: str
) -> None:
    result = replay(f"--attnconf-backend={backend}", "--attnconf-backend=good", "--attnconf-receipt=r.json")
    assert result.ret == 10
    assert result.parseoutcomes()["not_run"] == 1
    claim = f"NOT MET: --attnconf-backend names {backend}, but it judged nothing: {reason}"
    result.stdout.fnmatch_lines(
        [f"attnconf: backend {backend}: missing: {reason}", f"not_run: 1 test: {reason}", claim]
    )
    bad = next(cell for cell in receipt.cells if cell.backend == backend)
    assert (bad.executed, bad.not_run) == (0, 1)


def test_a_broken_package_is_not_run_with_the_doctors_sentence(
    replay: Inner, receipt: Receipt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path, monkeypatch)
    sentences = {name: site.install(name, package) for name, package in BROKEN.items()}
    asked = (f"--attnconf-backend={name}" for name in ("good", *sentences))
    result = replay(*asked, "--attnconf-receipt=r.json")
    assert result.parseoutcomes()["not_run"] == len(sentences)
    assert result.parseoutcomes()["passed"] == 1
    said = set(result.outlines)
    assert said.issuperset(f"attnconf: backend {name}: missing: {text}" for name, text in sentences.items())
    assert said.issuperset(f"not_run: 1 test: {text}" for text in sentences.values())
    kept = {cell.backend: cell.reasons for cell in receipt.cells if cell.not_run}
    assert kept == {name: {f"not_run: {text}": 1} for name, text in sentences.items()}


def test_contract_evidence_is_never_a_pass(replay: Inner, receipt: Receipt) -> None:
    result = replay("--attnconf-backend=paper", "--attnconf-receipt=r.json")
    outcomes = result.parseoutcomes()
    assert outcomes["contract_only"] == 1
    assert "passed" not in outcomes
    result.stdout.fnmatch_lines(["attnconf: backend paper?contract?: *no kernel evidence"])
    assert [(cell.backend, cell.passed, cell.contract_only) for cell in receipt.cells] == [("paper", 0, 1)]


def test_unsupported_is_shown_as_that_and_proves_nothing(replay: Inner) -> None:
    result = replay("--attnconf-backend=picky")
    assert result.parseoutcomes()["unsupported"] == 1
    assert result.ret == 10
    result.stdout.fnmatch_lines(["*only on Tuesdays*", "NOT MET: nothing was executed*"])


def test_everything_not_run_is_red(replay: Inner) -> None:
    result = replay("--attnconf-backend=missing")
    assert result.ret == 10
    result.stdout.fnmatch_lines(["NOT MET: nothing was executed: no backend judged a single case*"])


def test_junit_shows_outcomes_and_reasons(replay: Inner, pytester: pytest.Pytester) -> None:
    backends = ("good", "missing", "picky", "paper", "wrong")
    replay(*(f"--attnconf-backend={name}" for name in backends), "--junitxml=j.xml")
    found = {}
    for test in (one for one in _tests(pytester.path / "j.xml") if one.get("classname") != "attnconf.gate"):
        properties = {one.get("name"): one.get("value") for one in test.iter("property")}
        skipped = test.find("skipped")
        message = "" if skipped is None else skipped.get("message")
        found[test.get("name").split("[")[1].split("-")[0]] = (properties["attnconf.outcome"], message)
    assert {name: outcome for name, (outcome, _) in found.items()} == {
        "good": "passed",
        "missing": "not_run",
        "picky": "unsupported",
        "paper": "contract_only",
        "wrong": "failed",
    }
    assert found["paper"][1] == "contract_only: the documented contract was executed, and no kernel"
    assert found["missing"][1] == "not_run: missing needs libfoo: pip install libfoo"
    assert found["picky"][1] == "unsupported: only on Tuesdays"


def test_junit_agrees_with_the_receipt(replay: Inner, pytester: pytest.Pytester, receipt: Receipt) -> None:
    backends = ("good", "missing", "picky", "paper", "wrong", "raises", "memory", "refuses")
    replay(*(f"--attnconf-backend={name}" for name in backends), "--junitxml=j.xml", "--attnconf-receipt=r.json")
    tests = _tests(pytester.path / "j.xml")
    assert merge_cells(_cells(tests), ()) == list(receipt.cells)
    clean = [test for test in tests if not list(test.iter("failure")) and not list(test.iter("skipped"))]
    assert [cell.backend for cell in _cells(clean)] == ["good"]
    failing = [test for test in tests if list(test.iter("failure"))]
    assert {cell.backend for cell in _cells(failing)} == {cell.backend for cell in receipt.cells if cell.broken}


def test_junit_has_the_cells_of_a_test_that_ended_without_a_verdict(
    inner: Inner, pytester: pytest.Pytester, receipt: Receipt, toy_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object, **_options: object) -> None:
        message = "a fault of attnconf's own"
        raise ZeroDivisionError(message)

    monkeypatch.setattr("attnconf.running.judge.Judge.explore", broken)
    options = ("--attnconf-profile=smoke", f"--attnconf-model={toy_model}", "--attnconf-backend=good")
    suite = ("--pyargs", "attnconf.suite", "-k", "test_decode")
    assert inner(*suite, *options, "--attnconf-receipt=r.json", "--junitxml=j.xml").ret == 1
    (test,) = [test for test in _tests(pytester.path / "j.xml") if "test_decode" in str(test.get("name"))]
    assert _cells([test]) == list(receipt.cells)
    assert receipt.cells[0].crashed


def test_junit_is_red_when_the_policy_is_not_met(replay: Inner, pytester: pytest.Pytester, policy: str) -> None:
    result = replay("--attnconf-backend=paper", f"--attnconf-policy={policy}", "--junitxml=j.xml")
    assert result.ret == 10
    gates = [test for test in _tests(pytester.path / "j.xml") if test.get("classname") == "attnconf.gate"]
    sentences = [line for line in result.outlines if line.startswith("NOT MET: ")]
    assert [str(one.text) for test in gates for one in test.iter("failure")] == sentences
    assert sentences
    (suite,) = ET.parse(pytester.path / "j.xml").getroot().iter("testsuite")  # noqa: S314 - our own file
    assert (suite.get("failures"), suite.get("tests")) == (str(len(sentences)), str(len(sentences) + 1))
    assert set(result.parseoutcomes()) == {"contract_only", "deselected"}


def test_junit_is_red_when_nothing_was_executed(replay: Inner, pytester: pytest.Pytester) -> None:
    assert replay("--attnconf-backend=missing", "--junitxml=j.xml").ret == 10
    failures = [one.text for test in _tests(pytester.path / "j.xml") for one in test.iter("failure")]
    assert len(failures) == 1
    assert str(failures[0]).startswith("NOT MET: nothing was executed")


def _cells(tests: list[ET.Element]) -> list[Cell]:
    texts = [one.get("value") for test in tests for one in test.iter("property") if one.get("name") == "attnconf.cells"]
    return [Cell.from_data(data, "junit") for text in texts for data in json.loads(str(text))]


def _tests(path: Path) -> list[ET.Element]:
    return list(ET.parse(path).getroot().iter("testcase"))  # noqa: S314 - our own file


def test_the_refusal_family(inner: Inner, toy_model: str) -> None:
    del toy_model
    suite = ("--pyargs", "attnconf.suite", "--attnconf-profile=smoke", "--attnconf-model=toy.json", "-k", "refusal")
    result = inner(*suite, "--attnconf-backend=picky", "--attnconf-backend=good", "--attnconf-backend=wrong", "-rA")
    outcomes = result.parseoutcomes()
    assert (outcomes["passed"], outcomes["unsupported"]) == (1, 2)
    result.stdout.fnmatch_lines(["PASSED *test_refusal?picky?"])


def test_own_tests_judge_with_the_fixture(inner: Inner, pytester: pytest.Pytester, toy_case: Case) -> None:
    pytester.makepyfile(
        test_mine=f"""
        from attnconf import Case

        CASE = Case.model_validate({toy_case.to_data()!r})

        def test_good(attnconf):
            assert attnconf.check(CASE, backend="good").layers[0].kernel == "torch-paged"

        def test_wrong(attnconf):
            attnconf.check(CASE, backend="wrong")

        def test_missing(attnconf):
            attnconf.check(CASE, backend="missing")

        def test_unknown(attnconf):
            attnconf.check(CASE, backend="nobody")

        def test_two(attnconf):
            attnconf.check(CASE, backend="paper")
            attnconf.check(CASE, backend="good")
    """
    )
    result = inner("test_mine.py")
    assert result.parseoutcomes() == {"passed": 1, "failed": 2, "not_run": 1, "contract_only": 1}
    result.stdout.fnmatch_lines(["wrong fails case *", "backend: name is 'nobody'; allowed: *", "3 cases executed, *"])
    result.stdout.fnmatch_lines(["good was asked 1 time for a case again: each case counts once"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_failing_teardown_does_not_count_the_evidence_twice(
    inner: Inner, pytester: pytest.Pytester, toy_case: Case
) -> None:
    pytester.makepyfile(
        test_mine=f"""
        import pytest
        from attnconf import Case

        @pytest.fixture
        def fragile():
            yield
            raise RuntimeError("teardown")

        def test_good(fragile, attnconf):
            attnconf.check(Case.model_validate({toy_case.to_data()!r}), backend="good")
    """
    )
    result = inner("test_mine.py")
    assert result.parseoutcomes() == {"passed": 1, "errors": 1}
    result.stdout.fnmatch_lines(["1 case executed, 1 layer judged*"])
