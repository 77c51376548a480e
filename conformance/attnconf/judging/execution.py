"""Run one prepared layer into guarded outputs, and name what went wrong when it does not return."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from attnconf.cases.inputs.poison import bits
from attnconf.cases.inputs.target import Target, make_target
from attnconf.errors import UnbuiltError, UnsupportedError, one_line
from attnconf.judging.result import LayerResult, Outcome

if TYPE_CHECKING:
    from attnconf.backends.protocol import LseBase, Prepared
    from attnconf.cases.inputs.batch import Batch


_JOINED_BYTES = 2**27
"""Bytes up to which tensors are joined to be compared at once: the copies take that much memory, twice."""


@dataclass(frozen=True)
class Output:
    """What one layer returned: ``out`` [tokens, num_qo_heads, D], ``lse`` [tokens, num_qo_heads] natural or None.

    ``unwritten`` counts elements that were left alone, ``guards_intact`` says that nothing around was written.
    """

    out: torch.Tensor
    lse: torch.Tensor | None
    kernel: str
    unwritten: int
    guards_intact: bool


def run_layer(
    prepared: Prepared, batch: Batch, layer: int, lse_base: LseBase | None, judge: torch.device | None = None
) -> Output:
    """Run ``layer`` once; ask for the LSE when ``lse_base`` names one. Raises what the backend raises.

    What it wrote is read to ``judge`` (where it lies).
    """
    return run_into(prepared, layer, make_target(batch, layer, lse=lse_base is not None), lse_base, judge)


def run_into(
    prepared: Prepared,
    layer: int,
    target: Target,
    lse_base: LseBase | None,
    judge: torch.device | None = None,
) -> Output:
    """Run ``layer`` once into ``target``, and read it to ``judge``. Raises what the backend raises."""
    kernel: object = prepared.run(layer, target.out, target.lse)
    if not isinstance(kernel, str) or not kernel:
        message = f"run returned {kernel!r}, and not the name of the kernel that ran"
        raise RuntimeError(message)  # no TypeError: that would be a refusal, and it may have written something
    return read_output(target, kernel, lse_base, judge)


def read_output(target: Target, kernel: str, lse_base: LseBase | None, judge: torch.device | None = None) -> Output:
    """Return what stands in ``target`` once its device is done, on the device ``judge`` (where it lies)."""
    written = target.read(target.whole_out.device if judge is None else judge)
    lse = written.lse
    natural = lse.double() * math.log(2.0) if lse is not None and lse_base == "two" else lse
    return Output(written.out, natural, kernel, *written.inspect())


RAISED = (Exception, SystemExit)
"""What a backend may raise, and become a typed outcome by."""


def classify(error: BaseException) -> tuple[Outcome, str]:
    """Return the outcome that an exception out of a backend stands for, and its text on one line."""
    text = one_line(error)
    if isinstance(error, UnbuiltError):
        return Outcome.NOT_RUN, str(error)
    if isinstance(error, UnsupportedError):
        return Outcome.REFUSED, text
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return Outcome.OOM, text
    return Outcome.CRASHED, text


def ended(layer: int, error: BaseException, stage: str = "") -> LayerResult:
    """Return the result of a layer that ``error`` ended, in ``stage`` of its judgement where that is not its run."""
    outcome, text = classify(error)
    reason = f"in {stage}: {text}" if stage else text
    return LayerResult(layer=layer, outcome=outcome, reason=reason, error=type(error).__name__)


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether two tensors of one shape are equal bit for bit, NaN payloads included."""
    return torch.equal(bits(one.contiguous()), bits(other.contiguous()))


def same_memory(now: list[torch.Tensor], before: list[torch.Tensor]) -> bool:
    """Return whether the bytes of two lists of tensors (flat, uint8) are equal; on a GPU few bytes take one wait."""
    if now[0].is_cuda and sum(tensor.numel() for tensor in now) <= _JOINED_BYTES:
        return torch.equal(torch.cat(now), torch.cat(before))
    return all(torch.equal(_words(one), _words(other)) for one, other in zip(now, before, strict=True))


def _words(tensor: torch.Tensor) -> torch.Tensor:
    """Return bytes as integers of 64 bits, where they are a whole number of them: compared eight times as fast."""
    return tensor if tensor.numel() % 8 else tensor.view(torch.int64)
