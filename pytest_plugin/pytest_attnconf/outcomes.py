"""Typed outcomes in pytest's terms: how a test that was not judged, or only by contract, is reported."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

    from attnconf.cells import Cell
    from attnconf.result import Outcome

CELLS = "attnconf.cells"
OUTCOME = "attnconf.outcome"
_LETTERS = {"not_run": "n", "unsupported": "u", "contract_only": "c"}


def record(node: pytest.Item, cells: list[Cell], outcome: Outcome) -> None:
    """Attach evidence and the overall outcome to ``node``: user_properties survive xdist, and land in JUnit."""
    node.user_properties.append((CELLS, json.dumps([cell.model_dump(mode="json") for cell in cells])))
    node.user_properties.append((OUTCOME, outcome.value))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Report a broken clause as its own message, and a test that judged nothing as what it is."""
    report = yield
    if call.excinfo is None:
        return report
    import sys

    judge = sys.modules.get("attnconf.judge")
    if judge is None:
        return report
    error = call.excinfo.value
    if isinstance(error, judge.NotJudged):
        report.outcome = "skipped"
        report.longrepr = (str(item.path), item.location[1] or 0, f"{error.outcome.value}: {error}")
        report.user_properties.append((OUTCOME, error.outcome.value))
    elif isinstance(error, judge.ConformanceFailure):
        report.longrepr = str(error)
    return report


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Give not_run, unsupported and contract_only words of their own: none of them is a pass."""
    outcome = outcome_of(report)
    if report.failed or outcome not in _LETTERS or (report.passed and report.when != "call"):
        return None
    return outcome, _LETTERS[outcome], outcome.upper()


def outcome_of(report: pytest.TestReport) -> str:
    """Return the outcome that a test recorded, or an empty text."""
    found = [value for name, value in getattr(report, "user_properties", ()) if name == OUTCOME]
    return str(found[-1]) if found else ""
