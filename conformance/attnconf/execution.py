"""Run one prepared layer into guarded outputs, and name what went wrong when it does not return."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from attnconf.errors import UnsupportedError
from attnconf.inputs.poison import bits
from attnconf.result import Outcome

if TYPE_CHECKING:
    from attnconf.backends.protocol import LseBase, Prepared
    from attnconf.batch import Batch

GUARD_ROWS = 4
"""Rows before and behind the output that nobody may write."""

_SENTINEL = {1: 0x7F, 2: 0x7FA5, 4: 0x7FC5A5A5, 8: 0x7FF8A5A5A5A5A5A5}
"""A NaN with a payload of its own, by element size: an element that still holds it was not written."""


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


@dataclass(frozen=True)
class Target:
    """The guarded memory of one run: every byte of ``out``, ``lse`` and their guards is a sentinel until written."""

    out: torch.Tensor
    lse: torch.Tensor | None
    out_guards: tuple[torch.Tensor, ...]
    lse_guards: tuple[torch.Tensor, ...]

    @property
    def unwritten(self) -> int:
        """How many elements of the output and the LSE were left alone."""
        return _count_sentinels(self.out) + (0 if self.lse is None else _count_sentinels(self.lse))

    @property
    def elements(self) -> int:
        """How many elements the output and the LSE have."""
        return self.out.numel() + (0 if self.lse is None else self.lse.numel())

    def reset(self) -> None:
        """Make every element unwritten again."""
        for tensor in (self.out, self.lse):
            if tensor is not None:
                bits(tensor).fill_(_SENTINEL[tensor.element_size()])

    @property
    def guards_intact(self) -> bool:
        """Whether nothing around the output and the LSE was written."""
        return all(_count_sentinels(guard) == guard.numel() for guard in (*self.out_guards, *self.lse_guards))


def make_target(batch: Batch, layer: int, *, lse: bool) -> Target:
    """Allocate the guarded outputs of ``layer``."""
    q = batch.layers[layer].q
    out, out_guards = _guarded(q.shape, q.dtype, batch.device)
    if not lse:
        return Target(out, None, out_guards, ())
    rows, lse_guards = _guarded(q.shape[:2], torch.float32, batch.device)
    return Target(out, rows, out_guards, lse_guards)


def run_layer(prepared: Prepared, batch: Batch, layer: int, lse_base: LseBase | None) -> Output:
    """Run ``layer`` once; ask for the LSE when ``lse_base`` names one. Raises what the backend raises."""
    return run_into(prepared, batch, layer, make_target(batch, layer, lse=lse_base is not None), lse_base)


def run_into(prepared: Prepared, batch: Batch, layer: int, target: Target, lse_base: LseBase | None) -> Output:
    """Run ``layer`` once into ``target``. Raises what the backend raises."""
    kernel = prepared.run(layer, target.out, target.lse)
    if batch.device.type == "cuda":
        torch.cuda.synchronize(batch.device)
    return read_output(target, kernel, lse_base)


def read_output(target: Target, kernel: str, lse_base: LseBase | None) -> Output:
    """Return what stands in ``target`` once the device is done."""
    lse = target.lse
    natural = lse.double() * math.log(2.0) if lse is not None and lse_base == "two" else lse
    return Output(target.out, natural, kernel, target.unwritten, target.guards_intact)


def classify(error: BaseException) -> tuple[Outcome, str]:
    """Return the outcome that an exception out of a backend stands for, and its text on one line."""
    text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    if isinstance(error, UnsupportedError):
        return Outcome.REFUSED, text
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return Outcome.OOM, text
    return Outcome.CRASHED, text


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether two tensors of one shape are equal bit for bit, NaN payloads included."""
    return torch.equal(bits(one.contiguous()), bits(other.contiguous()))


def _guarded(
    shape: torch.Size, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    rows = shape[0]
    whole = torch.empty((rows + 2 * GUARD_ROWS, *shape[1:]), dtype=dtype, device=device)
    bits(whole).fill_(_SENTINEL[whole.element_size()])
    return whole[GUARD_ROWS : GUARD_ROWS + rows], (whole[:GUARD_ROWS], whole[GUARD_ROWS + rows :])


def _count_sentinels(tensor: torch.Tensor) -> int:
    return int((bits(tensor) == _SENTINEL[tensor.element_size()]).sum())
