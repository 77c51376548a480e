"""Run one prepared layer into guarded outputs, and turn exceptions into typed outcomes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from attnconf.cases.inputs.poison import bits
from attnconf.cases.inputs.target import make_target
from attnconf.errors import UnbuiltError, UnsupportedError, one_line
from attnconf.judging.result import LayerResult, Outcome

if TYPE_CHECKING:
    from attnconf.backends.protocol import LseBase, Prepared
    from attnconf.cases.inputs.batch import Batch
    from attnconf.cases.inputs.target import Target
    from attnconf.judging.surroundings import Surroundings


_JOINED_ON, _JOINED_BYTES = {"cuda"}, 2**27
"""Where tensors are joined and compared at once, and up to how many bytes: their joined copy takes as much memory."""


@dataclass(frozen=True)
class Output:
    """The output of one layer: ``out`` [tokens, num_qo_heads, D], ``lse`` [tokens, num_qo_heads] natural or None.

    ``memory`` is what ``out`` and ``lse`` are a part of. It is inspected where somebody asks, which waits for a GPU: of
    most runs only their numbers are compared.
    """

    out: torch.Tensor
    lse: torch.Tensor | None
    kernel: str
    memory: Target

    @cached_property
    def _inspected(self) -> tuple[int, bool]:
        return self.memory.inspect()

    @property
    def unwritten(self) -> int:
        """How many elements were not written."""
        return self._inspected[0]

    @property
    def guards_intact(self) -> bool:
        """Whether nothing around the outputs was written."""
        return self._inspected[1]


def run_layer(  # noqa: PLR0913 - what is run, where, and who reads it
    prepared: Prepared,
    batch: Batch,
    layer: int,
    lse_base: LseBase | None,
    surroundings: Surroundings,
    judge: torch.device | None = None,
) -> Output:
    """Run ``layer`` once, with an LSE if ``lse_base`` names a base. Raises what the backend raises.

    The output is copied to the device ``judge`` (None: it stays on its own).
    """
    target = make_target(batch, layer, lse=lse_base is not None)
    return run_into(prepared, layer, target, lse_base, surroundings, judge)


def run_into(  # noqa: PLR0913 - what is run, where, and who reads it
    prepared: Prepared,
    layer: int,
    target: Target,
    lse_base: LseBase | None,
    surroundings: Surroundings,
    judge: torch.device | None = None,
) -> Output:
    """Run ``layer`` once into ``target``, and copy that to ``judge``. Raises what the backend raises."""
    with surroundings.of_torch():
        kernel: object = prepared.run(layer, target.out, target.lse)
    if not isinstance(kernel, str) or not kernel:
        message = f"run returned {kernel!r}, and not the name of the kernel that ran"
        raise RuntimeError(message)  # no TypeError: that would be a refusal, and it may have written something
    return read_output(target, str.__str__(kernel), lse_base, judge)  # a text, and no enum of the backend's own


def read_output(target: Target, kernel: str, lse_base: LseBase | None, judge: torch.device | None = None) -> Output:
    """Return the contents of ``target`` once its device is done, on the device ``judge`` (None: its own)."""
    written = target.read(target.whole_out.device if judge is None else judge)
    lse = written.lse
    natural = lse.double() * math.log(2.0) if lse is not None and lse_base == "two" else lse
    return Output(written.out, natural, kernel, written)


_NO_HOST_MEMORY = "DefaultCPUAllocator: "
"""How torch says it of the host's memory, in a ``RuntimeError`` like any other."""


def classify(error: BaseException) -> tuple[Outcome, str]:
    """Return the outcome for a backend's exception, and the exception's text on one line."""
    text = one_line(error)
    if isinstance(error, UnbuiltError):
        return Outcome.NOT_RUN, str(error)
    if isinstance(error, UnsupportedError):
        return Outcome.REFUSED, text
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or _NO_HOST_MEMORY in text:
        return Outcome.OOM, text
    return Outcome.CRASHED, text


def ended(layer: int, error: BaseException, stage: str = "") -> LayerResult:
    """Return the result of a layer that ``error`` ended, in its run or in ``stage`` of its judgement."""
    outcome, text = classify(error)
    reason = f"in {stage}: {text}" if stage else text
    return LayerResult(layer=layer, outcome=outcome, reason=reason, error=type(error).__name__)


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether two tensors of one shape are equal bit for bit, NaN payloads included."""
    return torch.equal(bits(one.contiguous()), bits(other.contiguous()))


def copied(memory: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return copies of tensors (flat, uint8): on a GPU views of one copy of all, if they are small."""
    if not _are_joined(memory):
        return [tensor.clone() for tensor in memory]
    return list(torch.split(torch.cat(memory), [tensor.numel() for tensor in memory]))


def same_memory(now: list[torch.Tensor], before: list[torch.Tensor]) -> bool:
    """Return whether tensors are equal to their ``copied`` bytes. Small ones take one wait on a GPU."""
    if _are_joined(now):
        together = before[0].new_empty(0).set_(before[0].untyped_storage())
        return torch.equal(torch.cat(now), together)
    return all(torch.equal(_words(one), _words(other)) for one, other in zip(now, before, strict=True))


def _are_joined(memory: list[torch.Tensor]) -> bool:
    return memory[0].device.type in _JOINED_ON and sum(tensor.numel() for tensor in memory) <= _JOINED_BYTES


def _words(tensor: torch.Tensor) -> torch.Tensor:
    """Return bytes as 64-bit integers where their number allows it: comparing those is eight times as fast."""
    return tensor if tensor.numel() % 8 else tensor.view(torch.int64)
