"""``sglang:triton``: sglang's ``TritonAttnBackend``, in an engine of its own parts."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from attnconf.backends.sglang.capability import TRITON_PROMISES, triton_numerics, triton_supports
from attnconf.backends.sglang.engine import Engine, start
from attnconf.backends.sglang.groups import grouped
from attnconf.backends.sglang.library import library
from attnconf.backends.sglang.package import require
from attnconf.backends.triton.stack import call_with_room
from attnconf.errors import UnsupportedError
from attnconf.shape import batch_shape

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from attnconf.backends.protocol import Evidence, Prepared, Unsupported
    from attnconf.batch import Batch
    from attnconf.numerics import NumericsProfile
    from attnconf.platforms import Platform
    from attnconf.shape import KernelShape

TRITON = "sglang:triton"


@dataclass(frozen=True)
class SglangTriton:
    """The class ``TritonAttnBackend`` of the installed sglang, its metadata built by itself."""

    platform: Platform
    name = TRITON
    evidence: Evidence = "kernel"
    promises = TRITON_PROMISES

    def supports(self, shape: KernelShape, platform: Platform) -> Unsupported | None:
        """Return None, or why this shape cannot run there."""
        return triton_supports(shape, platform)

    def numerics(self, shape: KernelShape) -> NumericsProfile:
        """Return how the kernel for this shape holds its intermediate values."""
        return triton_numerics(shape)

    def prepare(self, batch: Batch) -> Prepared:
        """Start an engine for each model that the supported layers of ``batch`` make up; each builds its metadata."""
        found = {index: self.supports(batch_shape(batch, index), self.platform) for index in range(len(batch.layers))}
        refusals = {index: reason.reason for index, reason in found.items() if reason is not None}
        sglang = library()
        with sglang.running(), _silent_numpy():
            engines = [
                start(batch, group, sglang, sglang.TritonAttnBackend)
                for group in grouped(batch, [index for index in found if index not in refusals])
            ]
        return _Run(batch, {index: engine for engine in engines for index in engine.group.layers}, refusals)


@dataclass(frozen=True)
class _Run:
    batch: Batch
    engines: dict[int, Engine]
    refusals: dict[int, str]

    def run(self, layer: int, out: torch.Tensor, lse: torch.Tensor | None) -> str:
        del lse  # none is promised
        if layer in self.refusals:
            message = f"layer {layer}: {self.refusals[layer]}"
            raise UnsupportedError(message)
        engine = self.engines[layer]

        def answer() -> None:
            out.copy_(engine.run(layer))

        with engine.sglang.running(), _silent_numpy():
            call_with_room(answer)
        method = "forward_decode" if self.batch.mode == "decode" else "forward_extend"
        return f"TritonAttnBackend.{method}[interpreted]"


@contextlib.contextmanager
def _silent_numpy() -> Iterator[None]:
    """Keep numpy from warning where a GPU is silent: live infinities and NaN are for the checks to judge."""
    with np.errstate(all="ignore"):
        yield


def make_triton(platform: Platform) -> SglangTriton:
    """Return the backend for ``platform``. Raises ``BackendUnavailableError`` with the remedy without sglang."""
    require(TRITON, platform)
    if not platform.simulated:
        library()
    return SglangTriton(platform)
