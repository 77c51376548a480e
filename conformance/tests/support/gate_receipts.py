"""Receipts for tests of the gate: what a right run of a plan's job would write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnconf.gate.cells import Cell
from attnconf.gate.provider import Provider
from attnconf.gate.receipt import Receipt, record_platform

if TYPE_CHECKING:
    from attnconf.gate.plans.fleet_plan import FleetPlan
    from attnconf.policy.requirements import RequiredCell


ATTNCONF = Provider(distribution="attnconf", version="0.1.0", entry_point="attnconf.backends.x:make")


def proof(wanted: RequiredCell, **fields: Any) -> Cell:  # noqa: ANN401 - any field
    """Return a cell that proves ``wanted``."""
    features = sorted({"paging", *wanted.effective})
    data = {
        **dict.fromkeys(("failed", "unsupported", "refused", "crashed", "oom", "not_run", "contract_only"), 0),
        "backend": wanted.backend,
        "model": f"{wanted.model}@tp4",
        "layer_kind": wanted.layer_kind,
        "mode": wanted.mode,
        "q_dtype": "bfloat16",
        "kv_dtype": "bfloat16",
        "features": features,
        "effective": dict.fromkeys(features, 3),
        "executed": 3,
        "passed": 3,
        "worst_units": 0.45,
        "histogram": [0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0],
        "reasons": {},
    }
    return Cell.from_data({**data, **fields}, "test")


def receipt_of(plan: FleetPlan, job: str, /, *, simulated: bool = False, **fields: Any) -> Receipt:  # noqa: ANN401 - any field
    """Return the receipt of a right run of ``job``."""
    runner = plan.runner_of(job)
    assert runner is not None
    platform = plan.fleet.platform(runner).model_copy(update={"device": "NVIDIA B200", "simulated": simulated})
    data: dict[str, Any] = {
        "git_sha": plan.git_sha,
        "platform": record_platform(platform, "3.12.3"),
        "policy": plan.policy,
        "plan": plan.identity,
        "job": job,
        "profile": "gate",
        "seed": 0,
        "started": "2025-01-22T22:12:57+00:00",
        "seconds": 12.5,
        "exit_status": 0,
        "providers": {name: ATTNCONF for one in plan.jobs if one.name == job for name in one.backends},
        "cells": tuple(proof(cell) for one in plan.jobs if one.name == job for cell in one.cells),
    }
    return Receipt.model_validate({**data, **fields})
