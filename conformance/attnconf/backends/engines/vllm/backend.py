"""``vllm:triton``: vLLM's ``TritonAttentionBackend``, in an engine made of vLLM's own parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from attnconf.backends.engines.vllm.capability import PROMISES, numerics, supports
from attnconf.backends.engines.vllm.engine import Engine
from attnconf.backends.engines.vllm.library import library
from attnconf.backends.engines.vllm.package import RELEASES
from attnconf.backends.protocol import Workspace, refusals
from attnconf.backends.triton.stack import call_with_room
from attnconf.errors import UnsupportedError

if TYPE_CHECKING:
    import torch

    from attnconf.backends.engines.vllm.library import Library
    from attnconf.backends.protocol import EvidenceKind, Prepared, Unsupported
    from attnconf.cases.inputs.batch import Batch
    from attnconf.cases.shape import KernelShape
    from attnconf.platforms import Platform
    from attnconf.precision import NumericsProfile

NAME = "vllm:triton"


@dataclass(frozen=True)
class VllmTriton:
    """The class ``TritonAttentionBackend`` of the installed vLLM, with its own metadata and kernels."""

    platform: Platform
    name = NAME
    evidence: EvidenceKind = "kernel"
    promises = PROMISES

    def supports(self, shape: KernelShape, platform: Platform) -> Unsupported | None:
        """Return None, or why this shape cannot run there."""
        return supports(shape, platform)

    def numerics(self, shape: KernelShape) -> NumericsProfile:
        """Return the dtypes of the kernel's intermediate values for this shape."""
        return numerics(shape)

    def prepare(self, batch: Batch) -> Prepared:
        """Declare the supported layers of ``batch`` to vLLM, which builds their metadata."""
        declined = refusals(self, batch, self.platform)
        vllm = library()
        supported = (index for index in range(len(batch.layers)) if index not in declined)
        return PreparedLayers(vllm, Engine(vllm, batch, supported), declined)


@dataclass(frozen=True)
class PreparedLayers:
    """The layers of one batch in ``engine``; ``refusals`` has the reasons of declined layers."""

    vllm: Library
    engine: Engine
    refusals: dict[int, str]

    def run(self, layer: int, out: torch.Tensor, lse: torch.Tensor | None) -> str:
        """Run one layer and return vLLM's class, its method and how its kernels ran. It has no LSE.

        Raises ``UnsupportedError`` for a declined layer, before any launch.
        """
        del lse
        if layer in self.refusals:
            raise UnsupportedError(f"layer {layer}: {self.refusals[layer]}")

        def answer() -> None:
            answer = self.engine.run(layer)
            out[: len(answer)].copy_(answer)

        with np.errstate(all="ignore"):  # a GPU does not warn either: checks judge live NaN
            if self.vllm.compiled:
                answer()
            else:
                call_with_room(answer)
        return f"TritonAttentionImpl.forward[{self.vllm.how}]"

    def workspaces(self) -> tuple[Workspace, ...]:
        """Return the builders' memory for parts of the keys, whose contents between launches do not matter."""
        return tuple(Workspace(memory=memory) for memory in self.engine.scratch)


def make_triton(platform: Platform) -> VllmTriton:
    """Return the backend for ``platform``. Raises ``BackendUnavailableError`` with the remedy without vLLM."""
    RELEASES.require(NAME, platform)
    if not platform.simulated:
        library()
    return VllmTriton(platform)
