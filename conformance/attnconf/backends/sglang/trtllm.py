"""``sglang:trtllm_mha``: sglang's ``TRTLLMHAAttnBackend``, its FlashInfer calls executed as they are documented."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from attnconf.backends.flashinfer.package import PACKAGE
from attnconf.backends.flashinfer.package import REMEDY as FLASHINFER_REMEDY
from attnconf.backends.sglang.capability import TRTLLM_PROMISES, trtllm_supports
from attnconf.backends.sglang.documented import Documented
from attnconf.backends.sglang.library import library
from attnconf.backends.sglang.package import RELEASES
from attnconf.backends.sglang.prepared import prepare
from attnconf.errors import BackendUnavailableError
from attnconf.numerics import NumericsProfile
from attnconf.shape import batch_shape

if TYPE_CHECKING:
    from types import SimpleNamespace

    from attnconf.backends.protocol import Evidence, Prepared, Unsupported
    from attnconf.backends.sglang.library import Library
    from attnconf.batch import Batch
    from attnconf.platforms import Platform
    from attnconf.shape import KernelShape

NAME = "sglang:trtllm_mha"


@dataclass(frozen=True)
class SglangTrtllmMha:
    """The class ``TRTLLMHAAttnBackend`` on an SM100 machine that is not there: its metadata and its calls are real.

    What a run proves is sglang's own translation, from its pools to the arguments of FlashInfer's functions.
    """

    platform: Platform
    flashinfer: Documented | None = field(default=None, repr=False)
    name = f"{NAME}[contract]"
    evidence: Evidence = "contract"
    promises = TRTLLM_PROMISES

    def supports(self, shape: KernelShape, platform: Platform) -> Unsupported | None:
        """Return None, or why this shape cannot run there."""
        return trtllm_supports(shape, platform)

    def numerics(self, shape: KernelShape) -> NumericsProfile:
        """Everything is held in float32: the reading's own arithmetic."""
        del shape
        return NumericsProfile()

    def prepare(self, batch: Batch) -> Prepared:
        """Start an engine for each model that the supported layers of ``batch`` make up; each builds its metadata."""
        found = {index: self.supports(batch_shape(batch, index), self.platform) for index in range(len(batch.layers))}
        refusals = {index: declined.reason for index, declined in found.items() if declined is not None}
        sglang = library()
        return prepare(sglang, batch, refusals, partial(_make, sglang), self._named)

    def _named(self, batch: Batch, layer: int) -> str:
        """Return the class and the documented functions that its last run called."""
        del batch, layer
        if self.flashinfer is None:
            return "TRTLLMHAAttnBackend"
        called = "+".join(self.flashinfer.called)
        self.flashinfer.called.clear()
        return f"TRTLLMHAAttnBackend: contract:{called}"


def _make(sglang: Library, runner: SimpleNamespace) -> Any:  # noqa: ANN401 - a TRTLLMHAAttnBackend
    """Return sglang's backend as an SM100 machine would have it."""
    runner.prefill_attention_backend_str = runner.decode_attention_backend_str = "trtllm_mha"
    with sglang.override_platform(is_sm90=False, is_sm100=True, is_sm120=False):
        return sglang.TRTLLMHAAttnBackend(runner)


def make_trtllm_mha(platform: Platform) -> SglangTrtllmMha:
    """Return the backend for ``platform``. Raises ``BackendUnavailableError`` without sglang or FlashInfer."""
    RELEASES.require(NAME, platform)
    if PACKAGE not in platform.packages:
        message = f"backend {NAME} needs {PACKAGE}, which is not installed; {FLASHINFER_REMEDY}"
        raise BackendUnavailableError(message)
    if platform.sm is not None or platform.simulated:
        return SglangTrtllmMha(platform)  # it declines every shape there
    library()
    flashinfer = Documented()
    layers = "sglang.srt.layers.attention"
    names = ("trtllm_mha_backend", "trtllm_mla_backend", "flashinfer_backend")
    flashinfer.install(*(importlib.import_module(f"{layers}.{name}") for name in names))
    return SglangTrtllmMha(platform, flashinfer)
