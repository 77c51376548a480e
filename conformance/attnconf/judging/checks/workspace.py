"""Clause 15: what lies in scratch memory does not matter, and what must be zero at every launch is left zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from attnconf.backends.protocol import Scratched
from attnconf.judging.checks.agreement import Claim, compare_all
from attnconf.judging.checks.check import Check
from attnconf.judging.result import Failure

if TYPE_CHECKING:
    from attnconf.backends.protocol import Workspace
    from attnconf.judging.trial import Trial

CHECK_NAME = "workspace"
DIRT = 0xFF
"""A byte that makes NaN of every floating-point type, and -1 or the largest number of every integer type."""


def _run(trial: Trial, layer: int) -> list[Failure]:
    """Run the layer over dirty scratch memory, which is zero again afterwards, whatever the run left there."""
    parts = [_parts(workspace) for workspace in _workspaces(trial)]
    for kept, free in parts:
        kept.zero_()
        free.fill_(DIRT)
    try:
        output = trial.run(layer)
        failures = [_left_behind(layer, kept) for kept, _ in parts if bool(kept.any())]
    finally:
        for kept, free in parts:
            kept.zero_()
            free.zero_()
    claim = Claim(15, CHECK_NAME, f"the same call over scratch memory full of 0x{DIRT:X} bytes")
    compared = compare_all(trial, layer, output, claim, bitwise=trial.backend.promises.deterministic)
    return failures[:1] or compared


def _left_behind(layer: int, kept: torch.Tensor) -> Failure:
    places = kept.nonzero()
    summary = (
        f"{places.shape[0]} of the first {kept.numel()} bytes of the workspace, which must be zero at every launch, "
        f"are not zero after the run; the first of them is byte {int(places[0])}"
    )
    return Failure(clause=15, check=CHECK_NAME, layer=layer, summary=summary)


def _parts(workspace: Workspace) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the bytes that must be zero at a launch, and those that may hold anything."""
    whole = workspace.memory.view(-1).view(torch.uint8)
    return whole[: workspace.zero_bytes], whole[workspace.zero_bytes :]


def _workspaces(trial: Trial) -> tuple[Workspace, ...]:
    prepared, _ = trial.prepared("base", lambda: trial.question.batch)
    return prepared.workspaces() if isinstance(prepared, Scratched) else ()


def _applies(trial: Trial, layer: int) -> bool:
    del layer
    return bool(_workspaces(trial))


CHECK = Check(CHECK_NAME, (15,), _applies, _run)
