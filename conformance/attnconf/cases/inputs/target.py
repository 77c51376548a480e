"""The memory that one layer writes: outputs between guards, filled with sentinels until they are written."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from attnconf.cases.inputs.poison import bits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnconf.cases.inputs.batch import Batch


GUARD_ROWS = 4
"""Rows before and after the output; writing to them is a failure."""


_SENTINEL = {2: 0x7FA5, 4: 0x7FA57FA5, 8: 0x7FF8A5A5A5A5A5A5}
"""A NaN with an unusual payload, by element size: an element that still has it was not written.

That of 4 bytes is twice that of 2, so that an output and its LSE are filled at once.
"""

_WORD, _ALIGNED = 4, 512
"""Bytes of a number of the LSE, and those to which a GPU's allocations are aligned, as the LSE behind an output is."""

_STEP, _START, _BYTES = 151, 89, 256
"""Elements of 8 bits have no number to spare. Theirs differ from one to the next along the last dimension, and a vector
that still has all of them was not written. A part of one that was not is wrong by its numbers."""


@dataclass(frozen=True)
class Target:
    """The guarded memory of one run: every byte of ``out``, ``lse`` and their guards is a sentinel until written.

    ``whole_out`` and ``whole_lse`` are the allocations, ``GUARD_ROWS`` longer on both sides. The last ``slack`` rows of
    the output belong to no request: they are guards that a backend can reach.
    """

    whole_out: torch.Tensor
    whole_lse: torch.Tensor | None
    slack: int = 0

    @property
    def out(self) -> torch.Tensor:
        """The output, [tokens + slack, num_qo_heads, value_dim]."""
        return self.whole_out[GUARD_ROWS:-GUARD_ROWS]

    @property
    def lse(self) -> torch.Tensor | None:
        """The log-sum-exp, [tokens + slack, num_qo_heads], or None if the run returns none."""
        return None if self.whole_lse is None else self.whole_lse[GUARD_ROWS:-GUARD_ROWS]

    def read(self, device: torch.device) -> Target:
        """Copy the memory to ``device`` once its own device is done; waits once for all of it."""
        out = self.whole_out.to(device, non_blocking=True)
        lse = None if self.whole_lse is None else self.whole_lse.to(device, non_blocking=True)
        if self.whole_out.is_cuda:
            torch.cuda.synchronize(self.whole_out.device)
        return Target(out, lse, self.slack)

    @property
    def _wholes(self) -> list[torch.Tensor]:
        return [whole for whole in (self.whole_out, self.whole_lse) if whole is not None]

    def inspect(self) -> tuple[int, bool]:
        """Return how many elements of the output and the LSE are unwritten, and whether the guards are intact.

        Everything is counted on the device, which is waited for once.
        """
        wholes = self._wholes
        by_row = torch.cat([_sentinels(whole) for whole in wholes]).tolist()
        unwritten, intact = 0, True
        for whole in wholes:
            own, by_row = by_row[: len(whole)], by_row[len(whole) :]
            asked = self._asked(whole)
            unwritten += sum(own[asked])
            each = whole[0].numel()
            intact = intact and all(count == each for count in (*own[: asked.start], *own[asked.stop :]))
        return unwritten, intact

    def _asked(self, whole: torch.Tensor) -> slice:
        """Return which rows of an allocation belong to query tokens; around them are guards."""
        return slice(GUARD_ROWS, len(whole) - GUARD_ROWS - self.slack)

    @property
    def unwritten(self) -> int:
        """How many elements of the output and the LSE are unwritten."""
        return self.inspect()[0]

    @property
    def elements(self) -> int:
        """How many elements of the output and the LSE belong to query tokens."""
        return sum(whole[self._asked(whole)].numel() for whole in self._wholes)

    def reset(self) -> None:
        """Make every element unwritten again."""
        for whole in self._wholes:
            _fill(whole[GUARD_ROWS:-GUARD_ROWS])

    @property
    def guards_intact(self) -> bool:
        """Whether nothing around the output and the LSE was written."""
        return self.inspect()[1]


def make_target(batch: Batch, layer: int, *, lse: bool) -> Target:
    """Allocate the guarded outputs of ``layer``: one memory, the LSE behind the output, unless that has 8 bits."""
    q, dtype = batch.layers[layer].q, batch.layers[layer].out_dtype
    slack, out_shape, device = q.shape[0] - batch.num_rows, batch.layers[layer].out_shape, batch.device
    if dtype.itemsize not in {2, 4}:
        rows = _guarded(q.shape[:2], torch.float32, device) if lse else None
        return Target(_guarded(out_shape, dtype, device), rows, slack)
    shape, of_lse = ((given[0] + 2 * GUARD_ROWS, *given[1:]) for given in (out_shape, q.shape[:2]))
    behind = -(-math.prod(shape) * dtype.itemsize // _ALIGNED) * _ALIGNED
    words = behind // _WORD + (math.prod(of_lse) if lse else 0)
    memory = torch.full((words,), _SENTINEL[_WORD], dtype=torch.int32, device=device)
    whole = memory[: behind // _WORD].view(dtype)[: math.prod(shape)].view(shape)
    return Target(whole, memory[behind // _WORD :].view(torch.float32).view(of_lse) if lse else None, slack)


def _guarded(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    whole = torch.empty((shape[0] + 2 * GUARD_ROWS, *shape[1:]), dtype=dtype, device=device)
    _fill(whole)
    return whole


def _sentinel(tensor: torch.Tensor) -> torch.Tensor | int:
    """Return what an element that was not written holds, as bits, or what those of the last dimension hold."""
    if tensor.element_size() > 1:
        return _SENTINEL[tensor.element_size()]
    return (torch.arange(tensor.shape[-1], device=tensor.device) * _STEP + _START).remainder(_BYTES).to(torch.uint8)


def _fill(tensor: torch.Tensor) -> None:
    sentinel = _sentinel(tensor)
    if isinstance(sentinel, int):
        bits(tensor).fill_(sentinel)
    else:
        bits(tensor).copy_(sentinel)


def _sentinels(tensor: torch.Tensor) -> torch.Tensor:
    """Return how many elements of each row, of the first dimension, were not written; on the device."""
    same = torch.as_tensor(bits(tensor) == _sentinel(tensor))
    if tensor.element_size() > 1:
        return same.flatten(1).sum(dim=1)
    return same.all(dim=-1).flatten(1).sum(dim=1) * tensor.shape[-1]


def sentinels(tensor: torch.Tensor) -> torch.Tensor:
    """Return the number of elements of rows that were not written, on the device."""
    return _sentinels(tensor).sum()
