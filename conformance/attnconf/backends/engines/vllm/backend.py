"""``vllm:triton``: vLLM's ``TritonAttentionBackend``, in an engine of its own parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from attnconf.backends.engines.vllm.capability import PROMISES, numerics, supports
from attnconf.backends.engines.vllm.engine import Engine
from attnconf.backends.engines.vllm.library import library
from attnconf.backends.engines.vllm.package import RELEASES
from attnconf.backends.protocol import Workspace
from attnconf.backends.triton.stack import call_with_room
from attnconf.cases.shape import batch_shape
from attnconf.errors import UnsupportedError

if TYPE_CHECKING:
    import torch

    from attnconf.backends.engines.vllm.library import Library
    from attnconf.backends.protocol import Evidence, Prepared, Unsupported
    from attnconf.cases.inputs.batch import Batch
    from attnconf.cases.shape import KernelShape
    from attnconf.numerics import NumericsProfile
    from attnconf.platforms import Platform

NAME = "vllm:triton"


@dataclass(frozen=True)
class VllmTriton:
    """The class ``TritonAttentionBackend`` of the installed vLLM; its metadata and its kernels are its own."""

    platform: Platform
    name = NAME
    evidence: Evidence = "kernel"
    promises = PROMISES

    def supports(self, shape: KernelShape, platform: Platform) -> Unsupported | None:
        """Return None, or why this shape cannot run there."""
        return supports(shape, platform)

    def numerics(self, shape: KernelShape) -> NumericsProfile:
        """Return how the kernel for this shape holds its intermediate values."""
        return numerics(shape)

    def prepare(self, batch: Batch) -> Prepared:
        """Declare the supported layers of ``batch`` to vLLM, and let it build their metadata."""
        found = {index: self.supports(batch_shape(batch, index), self.platform) for index in range(len(batch.layers))}
        refusals = {index: declined.reason for index, declined in found.items() if declined is not None}
        vllm = library()
        return PreparedLayers(vllm, Engine(vllm, batch, (index for index in found if index not in refusals)), refusals)


@dataclass(frozen=True)
class PreparedLayers:
    """The layers of one batch in ``engine``; ``refusals`` says of those that cannot run why."""

    vllm: Library
    engine: Engine
    refusals: dict[int, str]

    def run(self, layer: int, out: torch.Tensor, lse: torch.Tensor | None) -> str:
        """Run one layer and return vLLM's class, its method and how its kernels ran. No LSE is promised.

        Raises ``UnsupportedError`` before any launch for a layer that was declined.
        """
        del lse
        if layer in self.refusals:
            raise UnsupportedError(f"layer {layer}: {self.refusals[layer]}")

        def answer() -> None:
            out.copy_(self.engine.run(layer))

        with np.errstate(all="ignore"):  # a GPU is silent, too: live NaN is for the checks to judge
            if self.vllm.compiled:
                answer()
            else:
                call_with_room(answer)
        return f"TritonAttentionImpl.forward[{self.vllm.how}]"

    def workspaces(self) -> tuple[Workspace, ...]:
        """Name the builders' memory for parts of the keys; what it holds between launches matters to none."""
        return tuple(Workspace(memory=memory) for memory in self.engine.scratch)


def make_triton(platform: Platform) -> VllmTriton:
    """Return the backend for ``platform``. Raises ``BackendUnavailableError`` with the remedy without vLLM."""
    RELEASES.require(NAME, platform)
    if not platform.simulated:
        library()
    return VllmTriton(platform)
