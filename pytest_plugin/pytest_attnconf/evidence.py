"""Evidence on the controller: what the tests recorded, what was lost with a process, the verdict and the receipt."""

from __future__ import annotations

import json
import platform as python_platform
import re
import time
from collections import Counter
from typing import TYPE_CHECKING, cast

from pytest_attnconf import junit
from pytest_attnconf.outcomes import CASES, CELLS, FAILURES, FAMILY, OUTCOME
from pytest_attnconf.suite_tests import backend_of

if TYPE_CHECKING:
    import pytest

    from attnconf.cases.drawing.families import Family
    from attnconf.gate.verdict import Verdict
    from attnconf.policy.policy import Policy
    from attnconf.running.record import Record
    from pytest_attnconf.state import State

_SUITE_TEST = re.compile(r"attnconf/suite/test_(\w+)\.py::\w+\[(.+)\]\Z|\Atest_(\w+)\.py::\w+\[(.+)\]\Z")


def collect(state: State, report: pytest.TestReport) -> bool:
    """Add the evidence of a report to ``state``; return whether there was any.

    A test of the suite that failed without evidence died with its process, or of a fault of its own: its cases count
    as crashed, for a receipt must not look as if they had never been asked.
    """
    told = any(name == CELLS for name, _ in report.user_properties)
    if not told and not (report.failed and state.is_asked_for):
        return False
    from attnconf.gate.cells import Cell, merge_cells
    from attnconf.gate.failed_case import FailedCase

    cells = [Cell.from_data(data, CELLS) for data in _recorded(report, CELLS)]
    state.failures += [FailedCase.from_data(data, FAILURES) for data in _recorded(report, FAILURES)]
    cases = sum(int(str(value)) for name, value in report.user_properties if name == CASES)
    if not told:
        lost = _lost(state, report)
        cells, cases = ([], 0) if lost is None else (lost.cells, lost.cases)
        if lost is not None:
            data = json.dumps([cell.model_dump(mode="json") for cell in cells])
            junit.add_properties(state.config, report, {CELLS: data, OUTCOME: lost.outcome.value})
    state.cells = merge_cells(state.cells, cells)
    for family in (str(value) for name, value in report.user_properties if name == FAMILY):
        state.families[family] = merge_cells(state.families.get(family, ()), cells)
    state.cases += cases
    state.judged_nodes += 1
    return True


def _recorded(report: pytest.TestReport, wanted: str) -> list[object]:
    return [data for name, text in report.user_properties if name == wanted for data in json.loads(str(text))]


def _lost(state: State, report: pytest.TestReport) -> Record | None:
    match = _SUITE_TEST.search(report.nodeid)
    if match is None:
        return None
    from attnconf.judging.result import Outcome
    from attnconf.running.record import Unexecuted

    backend = backend_of(report.nodeid, state.backends)
    family, params = (text for text in match.groups() if text is not None)
    if family == "sm100":
        model, _, family = params.rpartition("-")
        rest = model
    else:
        rest = params.removeprefix(f"{backend}-")
    reason = f"{report.nodeid.rpartition('::')[2]} ended without a verdict: {_first_line(report)}"
    lost = Unexecuted(state.session, backend, Outcome.CRASHED, reason)
    try:
        if family == "vectors":
            return lost.case(state.replayed[rest])
        return lost.family(cast("Family", family), rest)
    except Exception:  # noqa: BLE001 - what felled the test may fell the count; the failed test fails the run
        return None


def _first_line(report: pytest.TestReport) -> str:
    return (report.longreprtext.strip().splitlines() or ["no message"])[-1]


def unseen(state: State) -> list[str]:
    """Say what the families that ran were about, and never mattered: with a policy or without."""
    from attnconf.gate.coverage import unseen_features

    return [
        sentence
        for family, cells in sorted(state.families.items())
        for sentence in unseen_features(cast("Family", family), cells)
    ]


def came_without(state: State) -> dict[str, tuple[str, ...]]:
    """Return what the drawn cases came without, of each backend that was judged by such cases and promises less."""
    drawn = {cell.backend for cells in state.families.values() for cell in cells if cell.executed}
    if not drawn:
        return {}
    from attnconf.backends.demands import not_promised

    working = [state.session.backend(name) for name in state.backends if state.session.why_not(name) is None]
    found = {backend.name: not_promised(backend.promises) for backend in working if backend.name in drawn}
    return {name: words for name, words in sorted(found.items()) if words}


def hidden(state: State) -> list[str]:
    """Say which backends broke a clause in a run in which no test failed."""
    broken: Counter[str] = Counter()
    for cell in state.cells:
        broken[cell.backend] += cell.broken
    return [
        f"{count} layers of {name} are broken, but no test failed: a mark, a plugin or an except hides it"
        for name, count in sorted(broken.items())
        if count
    ]


def judge_policy(state: State, policy: Policy) -> Verdict:
    """Hold the evidence against ``policy``, as far as the job of a plan asks when the run is one."""
    from attnconf.gate.verdict import narrowed, reach_verdict
    from attnconf.policy.resolution import resolve_all

    backends = {name: state.session.why_not(name) for name in state.session.registry.names}
    platform = state.policy_platform
    verdict = reach_verdict(policy, resolve_all(policy, platform), state.cells, platform, backends)
    if state.plan is None:
        return verdict
    return narrowed(verdict, state.plan.job_named(state.option("job")).cells)


def write_receipt(state: State, status: int, complaints: tuple[str, ...]) -> str:
    """Write the receipt of a run that ends with ``status``, if one is asked for; return what went wrong, or nothing."""
    if not state.option("receipt"):
        return ""
    from attnconf.gate.receipt import PolicyRef, Receipt, git_sha, record_platform
    from attnconf.policy.policy import policy_digest

    policy = state.policy
    receipt = Receipt(
        git_sha=git_sha(state.config.invocation_params.dir),
        platform=record_platform(state.platform, python_platform.python_version()),
        policy=None if policy is None else PolicyRef(name=policy.name, digest=policy_digest(policy)),
        plan=None if state.plan is None else state.plan.identity,
        job=None if state.plan is None else state.option("job"),
        profile=state.profile.name,
        seed=state.seed,
        started=state.started.isoformat(),
        seconds=round(time.perf_counter() - state.clock, 3),
        cells=tuple(state.cells),
        failures=tuple(sorted(state.failures, key=lambda failed: failed.key)),
        exit_status=status,
        complaints=complaints,
        spared=came_without(state),
    )
    path = state.path(state.option("receipt"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        receipt.write(path)
    except OSError as error:
        return f"the receipt {path} cannot be written: {error.strerror}"
    return ""
