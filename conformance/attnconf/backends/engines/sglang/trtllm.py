"""``sglang:trtllm_mha``: sglang's ``TRTLLMHAAttnBackend``, in an engine made of sglang's own parts.

On SM 9.0 its calls run FlashInfer's kernels: XQA for decode and target verification, FMHA v2 for prefill. Without a GPU
the documented contract of these calls is executed, as if on SM100: such a run proves sglang's own translation from its
pools to the arguments of FlashInfer's functions.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from attnconf.backends.engines.sglang.capability import (
    SM90_PROMISES,
    TRTLLM_PROMISES,
    pooled,
    runs_here,
    trtllm_supports,
)
from attnconf.backends.engines.sglang.documented import Documented
from attnconf.backends.engines.sglang.library import library
from attnconf.backends.engines.sglang.observed import Observed
from attnconf.backends.engines.sglang.package import RELEASES
from attnconf.backends.engines.sglang.prepared import how, prepare
from attnconf.backends.flashinfer import places
from attnconf.backends.flashinfer.package import PACKAGE
from attnconf.backends.flashinfer.package import REMEDY as FLASHINFER_REMEDY
from attnconf.backends.flashinfer.trtllm_mha import TrtllmMha
from attnconf.backends.protocol import refusals
from attnconf.errors import BackendUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path
    from types import SimpleNamespace

    from attnconf.backends.builds import Build, BuildReport
    from attnconf.backends.engines.sglang.library import Library
    from attnconf.backends.protocol import EvidenceKind, Prepared, Promises, Unsupported
    from attnconf.cases.inputs.batch import Batch
    from attnconf.cases.shape import KernelShape
    from attnconf.platforms import Platform
    from attnconf.precision import NumericsProfile

NAME = "sglang:trtllm_mha"
_MODULES = tuple(
    f"sglang.srt.layers.attention.{name}" for name in ("trtllm_mha_backend", "trtllm_mla_backend", "flashinfer_backend")
)


@dataclass(frozen=True)
class SglangTrtllmMha:
    """The class ``TRTLLMHAAttnBackend`` of the installed sglang, with its own metadata and calls.

    ``flashinfer`` is the module that it calls, None on a platform where it declines every shape.
    """

    platform: Platform
    flashinfer: Documented | Observed | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The name in reports and receipts."""
        return NAME

    @property
    def evidence(self) -> EvidenceKind:
        """What a run proves: FlashInfer's kernels, or only sglang's translation."""
        return self._beneath.evidence

    @property
    def promises(self) -> Promises:
        """The optional clauses of these kernels."""
        return TRTLLM_PROMISES if self._beneath.reads_contract else SM90_PROMISES

    @property
    def _beneath(self) -> TrtllmMha:
        """The backend that calls FlashInfer's kernels on this platform without sglang."""
        return TrtllmMha(self.platform)

    def supports(self, shape: KernelShape, platform: Platform) -> Unsupported | None:
        """Return None, or why this shape cannot run there."""
        return trtllm_supports(shape, platform)

    def numerics(self, shape: KernelShape) -> NumericsProfile:
        """Return the dtypes of the kernel's intermediate values; a documented contract is executed in float32."""
        return self._beneath.numerics(pooled(shape))

    def builds(self, shapes: Iterable[KernelShape]) -> tuple[Build, ...]:
        """Return the modules that FlashInfer compiles for the supported ones of ``shapes``; pure."""
        wanted = [pooled(shape) for shape in shapes if self.supports(shape, self.platform) is None]
        return self._beneath.builds(wanted)

    def is_built(self, build: Build) -> bool:
        """Return whether FlashInfer finds the module."""
        return self._beneath.is_built(build)

    def build(self, builds: Sequence[Build], jobs: int, progress: Callable[[str], None]) -> BuildReport:
        """Build what is missing."""
        return self._beneath.build(builds, jobs, progress)

    def export(self, builds: Sequence[Build], folder: Path) -> tuple[Path, ...]:
        """Copy finished modules into ``folder``: a kernel cache."""
        return self._beneath.export(builds, folder)

    def prepare(self, batch: Batch) -> Prepared:
        """Start one engine for each model in the supported layers of ``batch``; each builds its metadata."""
        declined = refusals(self, batch, self.platform)
        sglang = library()
        if sglang.compiled:
            places.environment(self.platform)
        return prepare(sglang, batch, declined, partial(_make, sglang), partial(self._named, sglang))

    def _named(self, sglang: Library, batch: Batch, layer: int) -> str:
        """Return the class, and the kernels or documented functions of its last run."""
        if self.flashinfer is None:
            return "TRTLLMHAAttnBackend"
        called = "+".join(self.flashinfer.called)
        self.flashinfer.called.clear()
        if not sglang.compiled:
            return f"TRTLLMHAAttnBackend: contract:{called}"
        return f"TRTLLMHAAttnBackend: {called}[{how(sglang, batch, layer)}]"


def _make(sglang: Library, runner: SimpleNamespace) -> Any:  # noqa: ANN401 - a TRTLLMHAAttnBackend
    """Return sglang's backend for this machine's GPU, or without a GPU for SM100."""
    runner.prefill_attention_backend_str = runner.decode_attention_backend_str = "trtllm_mha"
    if sglang.compiled:
        return sglang.TRTLLMHAAttnBackend(runner)
    with sglang.override_platform(is_sm90=False, is_sm100=True, is_sm120=False):
        return sglang.TRTLLMHAAttnBackend(runner)


def make_trtllm_mha(platform: Platform) -> SglangTrtllmMha:
    """Return the backend for ``platform``. Raises ``BackendUnavailableError`` without sglang or FlashInfer."""
    RELEASES.require(NAME, platform)
    if PACKAGE not in platform.packages:
        raise BackendUnavailableError(f"backend {NAME} needs {PACKAGE}, which is not installed; {FLASHINFER_REMEDY}")
    if platform.simulated or not runs_here(platform):
        return SglangTrtllmMha(platform)  # it declines every shape there
    library()
    flashinfer: Documented | Observed
    if platform.sm is not None:
        flashinfer = Observed()
        flashinfer.install(importlib.import_module(_MODULES[0]))
    else:
        flashinfer = Documented()
        flashinfer.install(*(importlib.import_module(module) for module in _MODULES))
    return SglangTrtllmMha(platform, flashinfer)
