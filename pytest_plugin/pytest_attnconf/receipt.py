"""The receipt of a run: what its evidence proves, on which platform, and how the run ended."""

from __future__ import annotations

import platform as python_platform
import time
from typing import TYPE_CHECKING

from pytest_attnconf.ending import finish

if TYPE_CHECKING:
    from pytest_attnconf.evidence import RunEvidence
    from pytest_attnconf.state import State


def write_receipt(evidence: RunEvidence, status: int, complaints: tuple[str, ...]) -> str:
    """Write the receipt of a run that ends with ``status``, if one is asked for; return what went wrong, or nothing."""
    state = evidence.state
    if not state.option("receipt"):
        return ""
    from attnconf.gate.listed import listed_cells
    from attnconf.gate.receipt import PolicyRef, Receipt, record_platform
    from attnconf.policy.policy import policy_digest

    policy = state.policy
    receipt = Receipt(
        git_sha=state.commit[0],
        platform=record_platform(state.platform, python_platform.python_version()),
        policy=None if policy is None else PolicyRef(name=policy.name, digest=policy_digest(policy)),
        plan=None if state.plan is None else state.plan.identity,
        job=None if state.plan is None else state.option("job"),
        profile=state.profile.name,
        seed=state.seed,
        started=state.started.isoformat(),
        seconds=round(time.perf_counter() - state.clock, 3),
        cells=tuple(evidence.cells),
        failures=tuple(sorted(evidence.failures, key=lambda failed: failed.key)),
        exit_status=status,
        complaints=complaints,
        spared=evidence.came_without(),
        backend_seconds={name: round(seconds, 3) for name, seconds in sorted(evidence.seconds.items())},
        providers=evidence.providers,
        cases=evidence.cases,
        repeated=evidence.repeated,
        asked=evidence.asked,
        played=tuple(evidence.played[key] for key in sorted(evidence.played)),
        agenda=_agenda(state),
        listed=listed_cells(state.backends, state.profile.models, state.platform),
    )
    path = state.path(state.option("receipt"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        receipt.write(path)
    except OSError as error:
        return f"the receipt {path} cannot be written: {error.strerror}"
    finish(state.config, status)
    return ""


def _agenda(state: State) -> str | None:
    """Return the digest of what the profile draws; None if that fails, which is a failure of the test that draws."""
    try:
        return state.session.drawn.digest
    except Exception:  # noqa: BLE001 - the receipt says what the run found, whatever the drawing met
        return None
