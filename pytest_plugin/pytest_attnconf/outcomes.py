"""Typed outcomes in pytest's terms: how a test that was not judged, or only by contract, is reported.

Tests record their outcome, their cells and what each case adds to them as properties, which JUnit XML shows. To it are
added the cells of a test that died with its process, and a failed test case for each requirement that is not met: so
the XML alone agrees with the receipt and the exit status.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
from _pytest._code.code import Traceback
from _pytest.junitxml import xml_key

from pytest_attnconf.terminal import shown

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping

    from attnconf.errors import AttnconfError
    from attnconf.running.record import Record

CELLS = "attnconf.cells"
CASES = "attnconf.cases"
COUNTED = "attnconf.counted"
FAILURES = "attnconf.failures"
FAMILY = "attnconf.family"
OUTCOME = "attnconf.outcome"
GATED = "attnconf.gated"
REASONS = "attnconf.reasons"
SECONDS = "attnconf.seconds"
ASKED = "attnconf.asked"
PLAYED = "attnconf.played"
_GATE = "attnconf.gate"
_CONTRACT_ONLY = "contract_only"
_LETTERS = {"not_run": "n", "unsupported": "u", "contract_only": "c"}


def record(node: pytest.Item, evidence: Record) -> None:
    """Attach evidence to ``node``: user_properties survive xdist, and land in JUnit."""
    from attnconf.gate.distinct import packed

    node.user_properties.append((CELLS, json.dumps([cell.model_dump(mode="json") for cell in evidence.cells])))
    node.user_properties.append((CASES, evidence.cases))
    node.user_properties.append((COUNTED, json.dumps(packed(evidence.counted), separators=(",", ":"))))
    node.user_properties.append((OUTCOME, evidence.outcome.value))
    node.user_properties.append((SECONDS, json.dumps(evidence.seconds)))
    if evidence.asked:
        asked = {name: one.to_data() for name, one in evidence.asked.items()}
        node.user_properties.append((ASKED, json.dumps(asked)))
    if evidence.played is not None:
        node.user_properties.append((PLAYED, evidence.played.model_dump_json()))
    if evidence.family is not None:
        node.user_properties.append((FAMILY, evidence.family))
    if evidence.failures:
        failures = [failure.model_dump(mode="json", by_alias=True) for failure in evidence.failures]
        node.user_properties.append((FAILURES, json.dumps(failures)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Report a broken clause as its own message, and a test that judged no kernel as what it is: never as a pass.

    A reader of JUnit alone sees it as skipped, with its outcome and reason as the message.
    """
    error = _said(call)
    if error is None or call.excinfo is None:
        report = yield
        if report.when == "call" and report.passed and (OUTCOME, _CONTRACT_ONLY) in report.user_properties:
            return _unpassed(item, report, _CONTRACT_ONLY, "the documented contract was executed, and no kernel")
        return report
    # What we say is the whole report. Of a traceback pytest would first write the source and every argument: a tenth of
    # a second for each test that is not judged, to be thrown away here.
    whole, call.excinfo.traceback = call.excinfo.traceback, Traceback(())
    try:
        report = yield
    finally:
        call.excinfo.traceback = whole
    outcome = getattr(error, "outcome", None)
    if outcome is None:
        report.longrepr = _message(error)
        return report
    reasons = [[one.text, one.unbuilt] for one in error.reasons]
    item.user_properties.append((REASONS, json.dumps(reasons)))
    return _unpassed(item, report, outcome.value, str(error))


def _said(call: pytest.CallInfo[None]) -> Any:  # noqa: ANN401 - an AttnconfError, which may have an outcome
    """Return the error of attnconf that ended a phase of a test, if one did."""
    errors = sys.modules.get("attnconf.errors")
    if call.excinfo is None or errors is None or not isinstance(call.excinfo.value, errors.AttnconfError):
        return None
    return call.excinfo.value


def _unpassed(item: pytest.Item, report: pytest.TestReport, outcome: str, reason: str) -> pytest.TestReport:
    item.user_properties.append((OUTCOME, outcome))
    report.user_properties = list(item.user_properties)
    report.outcome = "skipped"
    report.longrepr = (str(item.path), (item.location[1] or 0) + 1, shown(f"{outcome}: {reason}"))
    return report


def _message(error: AttnconfError) -> str:
    """Return what an error says: the lines of a failing case, or one sentence."""
    judge = sys.modules.get("attnconf.running.judge")
    if judge is None or not isinstance(error, judge.ConformanceFailure):
        return shown(str(error))
    return "\n".join(map(shown, str(error).split("\n")))


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Give not_run, unsupported and contract_only words of their own: none of them is a pass."""
    outcome = outcome_of(report)
    if report.failed or outcome not in _LETTERS or (report.passed and report.when != "call"):
        return None
    return outcome, _LETTERS[outcome], outcome.upper()


def reasons_of(report: pytest.TestReport) -> list[tuple[str, str]]:
    """Return why a test was not judged: each reason with the kernel module that is not built, or an empty text."""
    found = [str(value) for name, value in report.user_properties if name == REASONS]
    return [(text, unbuilt) for text, unbuilt in json.loads(found[-1])] if found else []


def outcome_of(report: pytest.TestReport) -> str:
    """Return the outcome that a test recorded last, or an empty text."""
    found = [str(value) for name, value in getattr(report, "user_properties", ()) if name == OUTCOME]
    return found[-1] if found else ""


def add_junit_properties(config: pytest.Config, report: pytest.TestReport, properties: Mapping[str, str]) -> None:
    """Add properties to the test case of ``report``, if JUnit XML is written."""
    xml = config.stash.get(xml_key, None)
    if xml is not None:
        reporter = xml.node_reporter(report)
        for name, value in properties.items():
            reporter.add_property(name, value)


def add_junit_failures(config: pytest.Config, sentences: Iterable[str]) -> None:
    """Add a failed test case for each sentence, if JUnit XML is written; call it before the session finishes."""
    xml = config.stash.get(xml_key, None)
    if xml is None:
        return
    from attnconf.escape import junit

    for number, sentence in enumerate(dict.fromkeys(sentences), start=1):
        where = (_GATE, None, f"requirement {number}")
        nodeid = f"{_GATE}::{where[2]}"
        failed = pytest.TestReport(nodeid, where, {}, "failed", junit(f"NOT MET: {sentence}"), "call")
        xml.pytest_runtest_logreport(failed)
        xml.pytest_runtest_logreport(pytest.TestReport(nodeid, where, {}, "passed", None, "teardown"))
