"""A policy of one backend and three modes, and evidence for it: for tests of verdicts."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from attnconf.gate.cells import Cell
from attnconf.gate.verdict import Verdict, reach_verdict
from attnconf.platforms import Platform
from attnconf.policy.policy import Policy
from attnconf.policy.resolution import resolve_all

if TYPE_CHECKING:
    from attnconf.policy.requirements import RequiredCell

CPU = Platform()
TODAY = dt.date(2026, 11, 22)

TOY: dict[str, Any] = {
    "schema": "attnconf.policy/1",
    "name": "toy",
    "provenance": {"engine": "e", "version": "1", "file": "f"},
    "backends": {"a": {}, "b": {}},
    "rules": [{"name": "r", "architectures": ["X"], "backend": "a"}],
    "required": [
        {
            "architectures": ["X"],
            "models": ["llama3-8b"],
            "layer_kinds": ["full"],
            "modes": ["decode", "extend", "verify"],
        }
    ],
}
WAIVER = {"modes": ["verify"], "issue": "a/b#7", "owner": "kernels", "expires": "2026-11-22"}


def cell(wanted: RequiredCell, **fields: Any) -> Cell:  # noqa: ANN401 - any field
    counts = ["executed", "passed", "failed", "unsupported", "refused", "crashed", "oom", "not_run", "contract_only"]
    data = {
        **dict.fromkeys(counts, 0),
        "backend": wanted.backend,
        "model": f"{wanted.model}@tp4",
        "layer_kind": wanted.layer_kind,
        "mode": wanted.mode,
        "q_dtype": "bfloat16",
        "kv_dtype": "bfloat16",
        "features": sorted({"paging", *wanted.effective}),
        "executed": 1,
        "passed": 1,
        "worst_units": 0.5,
        "reasons": {},
        **fields,
    }
    return Cell.from_data(data, "test")


def toy(*, required: dict[str, Any] | None = None, **fields: Any) -> Policy:  # noqa: ANN401 - any field
    data = {**TOY, **fields, "required": [TOY["required"][0] | (required or {})]}
    return Policy.from_data(data, "toy")


def evidence(policy: Policy, **by_mode: dict[str, Any] | None) -> list[Cell]:
    """Return a passed cell for each required one; None for a mode leaves its cell out, a dict changes it."""
    cells = []
    for wanted in policy.all_required:
        change = by_mode.get(wanted.mode, {})
        if change is not None:
            cells.append(cell(wanted, **change))
    return cells


def held(policy: Policy, cells: list[Cell], today: dt.date = TODAY) -> Verdict:
    return reach_verdict(policy, resolve_all(policy, CPU), cells, CPU, {"a": None, "b": None}, today=today)
