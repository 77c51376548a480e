"""Typed outcomes in pytest's terms: how a test that was not judged, or only by contract, is reported."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

    from attnconf.proof import Proof

CELLS = "attnconf.cells"
CASES = "attnconf.cases"
OUTCOME = "attnconf.outcome"
GATED = "attnconf.gated"
_LETTERS = {"not_run": "n", "unsupported": "u", "contract_only": "c"}


def record(node: pytest.Item, proof: Proof) -> None:
    """Attach evidence to ``node``: user_properties survive xdist, and land in JUnit."""
    node.user_properties.append((CELLS, json.dumps([cell.model_dump(mode="json") for cell in proof.cells])))
    node.user_properties.append((CASES, proof.cases))
    node.user_properties.append((OUTCOME, proof.outcome.value))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Report a broken clause as its own message, and a test that judged nothing as what it is."""
    report = yield
    errors = sys.modules.get("attnconf.errors")
    if call.excinfo is None or errors is None or not isinstance(call.excinfo.value, errors.AttnconfError):
        return report
    error = call.excinfo.value
    outcome = getattr(error, "outcome", None)
    if outcome is None:
        report.longrepr = str(error)
        return report
    item.user_properties.append((OUTCOME, outcome.value))
    report.user_properties = list(item.user_properties)
    report.outcome = "skipped"
    report.longrepr = (str(item.path), (item.location[1] or 0) + 1, f"{outcome.value}: {error}")
    return report


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Give not_run, unsupported and contract_only words of their own: none of them is a pass."""
    outcome = outcome_of(report)
    if report.failed or outcome not in _LETTERS or (report.passed and report.when != "call"):
        return None
    return outcome, _LETTERS[outcome], outcome.upper()


def outcome_of(report: pytest.TestReport) -> str:
    """Return the outcome that a test recorded, or an empty text; of several, contract_only is the one that stands."""
    found = [str(value) for name, value in getattr(report, "user_properties", ()) if name == OUTCOME]
    return "contract_only" if report.passed and "contract_only" in found else (found[-1] if found else "")
