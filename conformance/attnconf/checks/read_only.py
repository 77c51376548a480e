"""Clause 10: a run changes only its output and its LSE, writes all of them, and nothing around them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.checks.check import Check, always
from attnconf.execution import same_bits
from attnconf.result import Failure

if TYPE_CHECKING:
    from attnconf.trial import Trial


def _run(trial: Trial, layer: int) -> list[Failure]:
    output = trial.outputs[layer]
    failures = []
    if not output.guards_intact:
        failures.append(_failure(layer, "memory around the output was written"))
    if output.unwritten:
        failures.append(_failure(layer, f"{output.unwritten} elements of the output or the LSE were not written"))
    return failures


def _run_again(trial: Trial, layer: int) -> list[Failure]:
    """Compare every input with a copy taken before a run."""
    _, batch = trial.prepared("base", lambda: trial.question.batch)
    before = [(name, tensor.clone()) for name, tensor in batch.tensors()]
    trial.run(layer)
    changed = [name for (name, copy), (_, tensor) in zip(before, batch.tensors(), strict=True) if not same_bits(copy, tensor)]
    return [_failure(layer, f"the run changed its input {name}") for name in changed[:1]]


def _failure(layer: int, summary: str) -> Failure:
    return Failure(clause=10, check="read_only", layer=layer, summary=summary)


OUTPUTS = Check("outputs_written", (10,), always, _run, extra=False)
INPUTS = Check("inputs_unchanged", (10,), always, _run_again)
