"""``sglang:triton``: sglang's ``TritonAttnBackend``, in an engine made of sglang's own parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnconf.backends.engines.sglang.capability import TRITON_PROMISES, runs_here, triton_numerics, triton_supports
from attnconf.backends.engines.sglang.library import library
from attnconf.backends.engines.sglang.package import RELEASES
from attnconf.backends.engines.sglang.prepared import how, prepare
from attnconf.backends.protocol import refusals

if TYPE_CHECKING:
    from attnconf.backends.engines.sglang.engine import MakeBackend
    from attnconf.backends.engines.sglang.library import Library
    from attnconf.backends.protocol import EvidenceKind, Prepared, Unsupported
    from attnconf.cases.inputs.batch import Batch
    from attnconf.cases.shape import KernelShape
    from attnconf.platforms import Platform
    from attnconf.precision import NumericsProfile

NAME = "sglang:triton"


@dataclass(frozen=True)
class SglangTriton:
    """The class ``TritonAttnBackend`` of the installed sglang, with its own metadata and kernels."""

    platform: Platform
    name = NAME
    evidence: EvidenceKind = "kernel"
    promises = TRITON_PROMISES

    def supports(self, shape: KernelShape, platform: Platform) -> Unsupported | None:
        """Return None, or why this shape cannot run there."""
        return triton_supports(shape, platform)

    def numerics(self, shape: KernelShape) -> NumericsProfile:
        """Return the dtypes of the kernel's intermediate values for this shape."""
        return triton_numerics(shape)

    def prepare(self, batch: Batch) -> Prepared:
        """Start one engine for each model in the supported layers of ``batch``; each builds its metadata."""
        declined = refusals(self, batch, self.platform)
        sglang = library()

        def named(batch: Batch, layer: int) -> str:
            method = "forward_decode" if batch.mode == "decode" else "forward_extend"
            return f"TritonAttnBackend.{method}[{how(sglang, batch, layer)}]"

        return prepare(sglang, batch, declined, self.engine_class(sglang), named)

    def engine_class(self, sglang: Library) -> MakeBackend:
        """Return the class that an engine constructs for its runner."""
        made: MakeBackend = sglang.TritonAttnBackend
        return made


def make_triton(platform: Platform) -> SglangTriton:
    """Return the backend for ``platform``. Raises ``BackendUnavailableError`` with the remedy without sglang."""
    RELEASES.require(NAME, platform)
    if not platform.simulated and runs_here(platform):
        library()  # elsewhere every shape is declined, so sglang is not needed
    return SglangTriton(platform)
