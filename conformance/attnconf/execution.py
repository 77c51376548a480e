"""Run one prepared layer into guarded outputs, and name what went wrong when it does not return."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from attnconf.errors import UnbuiltError, UnsupportedError, one_line
from attnconf.inputs.poison import bits
from attnconf.result import Outcome

if TYPE_CHECKING:
    from attnconf.backends.protocol import LseBase, Prepared
    from attnconf.batch import Batch

GUARD_ROWS = 4
"""Rows before and behind the output that nobody may write."""

_JOINED_BYTES = 2**27
"""Bytes up to which tensors are joined to be compared at once: the copies take that much memory, twice."""

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
    """The guarded memory of one run: every byte of ``out``, ``lse`` and their guards is a sentinel until written.

    ``whole_out`` and ``whole_lse`` are the allocations, ``GUARD_ROWS`` longer on both sides.
    """

    whole_out: torch.Tensor
    whole_lse: torch.Tensor | None

    @property
    def out(self) -> torch.Tensor:
        """The output, [tokens, num_qo_heads, head_dim]."""
        return self.whole_out[GUARD_ROWS:-GUARD_ROWS]

    @property
    def lse(self) -> torch.Tensor | None:
        """The log-sum-exp, [tokens, num_qo_heads], if it was asked for."""
        return None if self.whole_lse is None else self.whole_lse[GUARD_ROWS:-GUARD_ROWS]

    def read(self, device: torch.device) -> Target:
        """Return what stands here once the device is done, on ``device``: one wait for all of it."""
        out = self.whole_out.to(device, non_blocking=True)
        lse = None if self.whole_lse is None else self.whole_lse.to(device, non_blocking=True)
        if self.whole_out.is_cuda:
            torch.cuda.synchronize(self.whole_out.device)
        return Target(out, lse)

    @property
    def _wholes(self) -> list[torch.Tensor]:
        return [whole for whole in (self.whole_out, self.whole_lse) if whole is not None]

    def look(self) -> tuple[int, bool]:
        """Return how many elements of the output and the LSE were left alone, and whether nothing around was written.

        All of it is counted where it lies, and a GPU waited for once.
        """
        wholes = self._wholes
        inside = [_sentinels(whole[GUARD_ROWS:-GUARD_ROWS]) for whole in wholes]
        around = [_sentinels(guard) for whole in wholes for guard in (whole[:GUARD_ROWS], whole[-GUARD_ROWS:])]
        guards = sum(2 * GUARD_ROWS * whole[0].numel() for whole in wholes)
        left, intact = torch.stack([torch.stack(inside).sum(), torch.stack(around).sum()]).tolist()
        return int(left), intact == guards

    @property
    def unwritten(self) -> int:
        """How many elements of the output and the LSE were left alone."""
        return self.look()[0]

    @property
    def elements(self) -> int:
        """How many elements the output and the LSE have."""
        return self.out.numel() + (0 if self.lse is None else self.lse.numel())

    def reset(self) -> None:
        """Make every element unwritten again."""
        for whole in self._wholes:
            bits(whole[GUARD_ROWS:-GUARD_ROWS]).fill_(_SENTINEL[whole.element_size()])

    @property
    def guards_intact(self) -> bool:
        """Whether nothing around the output and the LSE was written."""
        return self.look()[1]


def make_target(batch: Batch, layer: int, *, lse: bool) -> Target:
    """Allocate the guarded outputs of ``layer``."""
    q = batch.layers[layer].q
    rows = _guarded(q.shape[:2], torch.float32, batch.device) if lse else None
    return Target(_guarded(q.shape, q.dtype, batch.device), rows)


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
    seen = target.read(target.whole_out.device if judge is None else judge)
    lse = seen.lse
    natural = lse.double() * math.log(2.0) if lse is not None and lse_base == "two" else lse
    return Output(seen.out, natural, kernel, *seen.look())


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


def _guarded(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    whole = torch.empty((shape[0] + 2 * GUARD_ROWS, *shape[1:]), dtype=dtype, device=device)
    bits(whole).fill_(_SENTINEL[whole.element_size()])
    return whole


def _sentinels(tensor: torch.Tensor) -> torch.Tensor:
    return (bits(tensor) == _SENTINEL[tensor.element_size()]).sum()
