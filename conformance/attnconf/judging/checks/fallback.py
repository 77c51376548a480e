"""Clause 20: the kernel that ran is one that the backend says serves the shape, and not another in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.backends.protocol import Dispatching
from attnconf.cases.shape import kernel_shape
from attnconf.judging.checks.check import Check, always
from attnconf.judging.result import Failure

if TYPE_CHECKING:
    from attnconf.judging.trial import Trial

NAME = "fallback"


def _run(trial: Trial, layer: int) -> list[Failure]:
    ran = trial.outputs[layer].kernel
    if not isinstance(trial.backend, Dispatching):
        return []
    named = trial.backend.kernels(kernel_shape(trial.case, layer))
    if ran in named:
        return []
    summary = f"{ran} ran, and not {' or '.join(sorted(named)) or 'any kernel that it names'}: a silent fallback"
    return [Failure(clause=20, check=NAME, layer=layer, summary=summary)]


CHECK = Check(NAME, (20,), always, _run, extra=False)
