"""The backends: plan a batch once per kind of layer, then run FlashInfer's wrappers layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from attnconf.backends.flashinfer_fa import capability, library
from attnconf.backends.flashinfer_fa.calls import (
    WRAPPERS,
    PlanKey,
    WrapperKind,
    constructor_arguments,
    plan_arguments,
    plan_key,
    run_arguments,
    wrapper_kind,
)
from attnconf.backends.flashinfer_fa.indices import PageIndices, page_indices
from attnconf.backends.flashinfer_fa.variant import Template, variant_of_layer, variant_of_shape
from attnconf.backends.protocol import ANYTHING, FINITE, Promises, Workspace
from attnconf.errors import BackendUnavailableError, UnsupportedError
from attnconf.numerics import NumericsProfile

if TYPE_CHECKING:
    from attnconf.backends.protocol import Evidence, Unsupported
    from attnconf.batch import Batch, Pool
    from attnconf.platforms import Platform
    from attnconf.shape import KernelShape

_APPROXIMATE_TANH = 2.0**-10
"""The soft cap uses tanh.approx.f32, whose relative error is at most about 2**-11 (PTX ISA)."""


@dataclass(frozen=True)
class FlashInferFa:
    """One of FlashInfer's templates, fa2 or fa3, behind its paged wrappers."""

    template: Template
    platform: Platform
    evidence: Evidence = "kernel"

    @property
    def name(self) -> str:
        """The name in reports and receipts."""
        return f"flashinfer_{self.template}"

    @property
    def promises(self) -> Promises:
        """The optional clauses kept, as the sources say and as NaN and huge dead slots showed on an H100.

        Neither keeps the clause on empty rows: FlashInfer 0.6 writes zeros, and -5e4 for minus infinity as their LSE.
        fa2 loads from the first key that a tile's first row sees, so it never reads what was reclaimed. fa3 loads whole
        tiles of keys; the probability of a key behind the window is 0 there, but 0 times a NaN in its value is not.
        How fa2 splits the keys depends on the whole batch.
        """
        reclaimed_v = ANYTHING if self.template == "fa2" else FINITE
        return Promises(reclaimed_v=reclaimed_v, empty_kv=False, batch_invariant=False, lse="two")

    def supports(self, shape: KernelShape, platform: Platform) -> Unsupported | None:
        """Return None, or why the template cannot run ``shape`` on ``platform``; pure."""
        return capability.supports(variant_of_shape(self.template, shape), platform)

    def numerics(self, shape: KernelShape) -> NumericsProfile:
        """Return how the kernels hold their intermediate values; read from FlashInfer 0.6.13's sources.

        Both round P to q's dtype and accumulate in float32. fa2's denominator sums the rounded P
        (``m16k16_rowsum_f16f16f32``) and its split-KV partial outputs are in the output's dtype (``DTypeO* tmp_v``);
        fa3's denominator sums float32 and it has no splits. float8_e4m3fn keys and values become q's dtype, exactly;
        v_scale multiplies the rounded output, a rounding that ``partials`` stands for where nothing was split.
        """
        if self.template == "fa3":
            return NumericsProfile(p=shape.q_dtype, tanh=_APPROXIMATE_TANH)
        return NumericsProfile(p=shape.q_dtype, row_sum=shape.q_dtype, partials=shape.q_dtype, tanh=_APPROXIMATE_TANH)

    def prepare(self, batch: Batch) -> PreparedWrappers:
        """Plan every kind of layer that is supported; the first plan of a variant builds its module.

        Raises ``UnsupportedError`` before any launch, and ``BackendUnavailableError`` where nothing can run.
        """
        if self.platform.simulated:
            message = f"{self.name} cannot run on a simulated platform ({self.platform.device})"
            raise BackendUnavailableError(message)
        self._refuse(batch)
        workspace = library.workspace(batch)
        indices: dict[Pool, PageIndices] = {}
        planned: dict[PlanKey, Planned] = {}
        by_layer: list[Planned | str] = []
        for layer, inputs in enumerate(batch.layers):
            variant = variant_of_layer(self.template, batch, layer)
            refusal = capability.supports(variant, self.platform)
            if refusal is not None:
                by_layer.append(refusal.reason)
                continue
            key = plan_key(batch, layer, variant)
            if key not in planned:
                pool = batch.caches[inputs.cache].pool
                if pool not in indices:
                    indices[pool] = page_indices(batch, layer)
                planned[key] = _plan(batch, key, indices[pool], workspace)
            by_layer.append(planned[key])
        return PreparedWrappers(batch, tuple(by_layer), workspace)

    def _refuse(self, batch: Batch) -> None:
        if any(q_len and not kv_len for q_len, kv_len in zip(batch.q_lens, batch.kv_lens, strict=True)):
            message = f"{self.template} does not write minus infinity as the LSE of a request without keys"
            raise UnsupportedError(message)
        for cache in batch.caches:
            if cache.k.stride() != cache.v.stride() or cache.k.stride(-1) != 1:
                message = f"{self.template} reads keys and values with one set of strides, head_dim 1 apart"
                raise UnsupportedError(message)


@dataclass(frozen=True)
class Planned:
    """A wrapper with its plan, and the name of what it launches. The wrapper keeps the page metadata alive."""

    wrapper: Any
    kernel: str


@dataclass(frozen=True)
class PreparedWrappers:
    """A batch with a planned wrapper for each layer, or the reason why the layer has none."""

    batch: Batch
    by_layer: tuple[Planned | str, ...]
    workspace: torch.Tensor

    def run(self, layer: int, out: torch.Tensor, lse: torch.Tensor | None) -> str:
        """Run one layer into ``out`` and ``lse`` (base two), and return the name of the kernel that ran."""
        planned = self.by_layer[layer]
        if isinstance(planned, str):
            raise UnsupportedError(planned)
        target = out if out.is_contiguous() else torch.empty_like(out, memory_format=torch.contiguous_format)
        arguments, extra = run_arguments(self.batch, layer, target, lse)
        library.call(planned.wrapper.run, arguments, extra)
        if target is not out:
            out.copy_(target)
        return planned.kernel

    def workspaces(self) -> tuple[Workspace, ...]:
        """Return the float workspace, where split-KV partial results lie.

        The plan lies in the wrapper's integer workspace, which every run reads: it is metadata, and nobody else's.
        """
        return (Workspace(memory=self.workspace),)


def make_fa2(platform: Platform) -> FlashInferFa:
    """Return the fa2 backend. Raises ``BackendUnavailableError`` naming what ``platform`` lacks."""
    return _make("fa2", platform)


def make_fa3(platform: Platform) -> FlashInferFa:
    """Return the fa3 backend. Raises ``BackendUnavailableError`` naming what ``platform`` lacks."""
    return _make("fa3", platform)


def _make(template: Template, platform: Platform) -> FlashInferFa:
    lacking = capability.missing(template, platform)
    if lacking is not None:
        remedy = f"; remedy: {library.REMEDY}" if capability.PACKAGE in lacking else ""
        message = f"flashinfer_{template} {lacking}{remedy}"
        raise BackendUnavailableError(message)
    return FlashInferFa(template, platform)


def _plan(batch: Batch, key: PlanKey, indices: PageIndices, workspace: torch.Tensor) -> Planned:
    kind: WrapperKind = wrapper_kind(batch, key)
    made = library.load(*WRAPPERS[kind])
    wrapper = library.call(made, constructor_arguments(batch, key, kind, workspace))
    library.call(wrapper.plan, plan_arguments(batch, key, kind, indices))
    features = "-sinks" if key.variant.sinks else ""
    return Planned(wrapper, f"{key.variant.template}-{kind}{features}")
