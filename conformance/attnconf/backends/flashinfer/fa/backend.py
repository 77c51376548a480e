"""The backends flashinfer_fa2 and flashinfer_fa3: FlashInfer's wrappers, planned once per kind of layer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from attnconf.backends.flashinfer import jit, library, places
from attnconf.backends.flashinfer.built import BuiltByFlashInfer
from attnconf.backends.flashinfer.cache import ready_made
from attnconf.backends.flashinfer.fa import capability, modules
from attnconf.backends.flashinfer.fa.binding import call
from attnconf.backends.flashinfer.fa.build import jit_spec
from attnconf.backends.flashinfer.fa.calls import (
    WRAPPERS,
    PlanKey,
    WrapperKind,
    constructor_arguments,
    plan_arguments,
    plan_key,
    run_arguments,
    wrapper_kind,
)
from attnconf.backends.flashinfer.fa.indices import PageIndices, page_indices
from attnconf.backends.flashinfer.fa.variant import Template, variant_of_layer, variant_of_shape
from attnconf.backends.flashinfer.fa.workspace import workspace
from attnconf.backends.flashinfer.package import PACKAGE, REMEDY
from attnconf.backends.flashinfer.tokens import answered_rows
from attnconf.backends.protocol import ANYTHING, FINITE, Promises, Unsupported, Workspace
from attnconf.cases.dtypes import FP8
from attnconf.errors import BackendUnavailableError, UnsupportedError
from attnconf.precision import APPROXIMATE_TANH, NumericsProfile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from attnconf.backends.builds import Build, BuildReport
    from attnconf.backends.protocol import EvidenceKind
    from attnconf.cases.inputs.batch import Batch, Pool
    from attnconf.cases.shape import KernelShape
    from attnconf.platforms import Platform


@dataclass(frozen=True)
class FlashInferFa(BuiltByFlashInfer):
    """One of FlashInfer's templates, fa2 or fa3, behind its paged wrappers."""

    template: Template
    platform: Platform
    evidence: EvidenceKind = "kernel"

    @property
    def name(self) -> str:
        """The name in reports and receipts."""
        return f"flashinfer_{self.template}"

    @property
    def promises(self) -> Promises:
        """The optional clauses kept, from the sources and from tests with NaN and huge dead slots on an H100.

        Neither keeps the clause on empty rows: FlashInfer 0.6 writes zeros, and an LSE of -5e4 for minus infinity. fa2
        loads keys from the first one that a tile's first row sees, so it never reads reclaimed pages. fa3 loads whole
        tiles of keys: a key behind the window has probability 0, but 0 times a NaN in its value is NaN. The splits of
        fa2 depend on the whole batch.
        """
        reclaimed_v = ANYTHING if self.template == "fa2" else FINITE
        return Promises(reclaimed_v=reclaimed_v, empty_kv=False, batch_invariant=False, lse="two")

    def supports(self, shape: KernelShape, platform: Platform) -> Unsupported | None:
        """Return None, or why the template cannot run ``shape`` on ``platform``; pure."""
        if shape.storage == "unlike":
            return Unsupported(self._one_set_of_strides)
        return capability.supports(variant_of_shape(self.template, shape), platform)

    def numerics(self, shape: KernelShape) -> NumericsProfile:
        """Return the dtypes of the kernels' intermediate values, as read from FlashInfer 0.6.13's sources.

        Both round P to q's dtype and accumulate in float32. fa2's denominator sums the rounded P
        (``m16k16_rowsum_f16f16f32``) and its split-KV partial outputs are in the output's dtype (``DTypeO* tmp_v``);
        fa3's denominator sums float32 and it has no splits. keys and values of 8 bits become q's dtype, exactly;
        v_scale multiplies the rounded output, and ``partials`` accounts for that rounding where nothing was split. fa3
        under an 8-bit query multiplies 8 bits by 8 bits, P's included, which it rounds 448 times as large (``p_scale``
        of ``StandardFP8Attention``), and its scales are applied in float32.
        """
        if shape.q_dtype == FP8:
            return NumericsProfile(p=FP8, p_scale=448.0, accumulator="float22", tanh=APPROXIMATE_TANH)
        if self.template == "fa3":
            return NumericsProfile(p=shape.q_dtype, tanh=APPROXIMATE_TANH)
        return NumericsProfile(p=shape.q_dtype, row_sum=shape.q_dtype, partials=shape.q_dtype, tanh=APPROXIMATE_TANH)

    def builds(self, shapes: Iterable[KernelShape]) -> tuple[Build, ...]:
        """Return the modules that FlashInfer compiles for the supported ones of ``shapes``; pure."""
        return modules.builds(self.template, shapes, self.platform)

    def build(self, builds: Sequence[Build], jobs: int, progress: Callable[[str], None]) -> BuildReport:
        """Build what is missing."""
        return jit.build_all(builds, self.platform, jit_spec, jobs, progress)

    def prepare(self, batch: Batch) -> PreparedWrappers:
        """Build the page metadata. A kind of layer is planned when its first layer runs, which loads its module.

        So a layer that cannot run without compiling does not delay the others. Raises ``UnsupportedError`` before any
        launch, and ``BackendUnavailableError`` where nothing can run.
        """
        if self.platform.simulated:
            raise BackendUnavailableError(f"{self.name} cannot run on a simulated platform ({self.platform.device})")
        self._refuse(batch)
        places.environment(self.platform)
        scratch = workspace(batch)
        indices: dict[Pool, PageIndices] = {}
        plans: dict[PlanKey, Plan] = {}
        by_layer: list[Plan | str] = []
        for layer, inputs in enumerate(batch.layers):
            variant = variant_of_layer(self.template, batch, layer)
            refusal = capability.supports(variant, self.platform)
            if refusal is not None:
                by_layer.append(refusal.reason)
                continue
            key = plan_key(batch, layer, variant)
            if key not in plans:
                pool = batch.caches[inputs.cache].pool
                if pool not in indices:
                    indices[pool] = page_indices(batch, layer)
                plans[key] = Plan(batch, key, indices[pool], scratch)
            by_layer.append(plans[key])
        return PreparedWrappers(batch, tuple(by_layer), scratch)

    def _refuse(self, batch: Batch) -> None:
        if any(q_len and not kv_len for q_len, kv_len in zip(batch.q_lens, batch.kv_lens, strict=True)):
            message = f"{self.template} does not write minus infinity as the LSE of a request without keys"
            raise UnsupportedError(message)
        for cache in batch.caches:
            if cache.k.shape[-1] != cache.v.shape[-1]:  # its layer is refused when it runs
                continue
            if cache.k.stride() != cache.v.stride() or cache.k.stride(-1) != 1:
                raise UnsupportedError(self._one_set_of_strides)

    @property
    def _one_set_of_strides(self) -> str:
        return f"{self.template} reads keys and values with one set of strides, head_dim 1 apart"


@dataclass
class Plan:
    """The wrapper for all layers of one kind, which is planned on first use. It keeps the metadata alive."""

    batch: Batch
    key: PlanKey
    indices: PageIndices
    workspace: torch.Tensor

    @property
    def kind(self) -> WrapperKind:
        """The kind of wrapper."""
        return wrapper_kind(self.batch, self.key)

    @property
    def kernel(self) -> str:
        """The name of the kernel."""
        return f"{self.key.variant.template}-{self.kind}" + ("-sinks" if self.key.variant.sinks else "")

    @cached_property
    def wrapper(self) -> Any:  # noqa: ANN401 - FlashInfer's wrapper
        """The planned wrapper. Raises ``BackendUnavailableError`` if the installed one does not take our calls."""
        made = library.load(*WRAPPERS[self.kind])
        wrapper = call(made, constructor_arguments(self.batch, self.key, self.kind, self.workspace))
        call(wrapper.plan, plan_arguments(self.batch, self.key, self.kind, self.indices))
        return wrapper


@dataclass(frozen=True)
class PreparedWrappers:
    """A batch with a plan for each layer, or the reason why the layer has none."""

    batch: Batch
    by_layer: tuple[Plan | str, ...]
    workspace: torch.Tensor

    def run(self, layer: int, out: torch.Tensor, lse: torch.Tensor | None) -> str:
        """Run one layer into ``out`` and ``lse`` (base two), and return the name of the kernel that ran."""
        plan = self.by_layer[layer]
        if isinstance(plan, str):
            raise UnsupportedError(plan)
        out, lse = answered_rows(self.batch, out, lse)
        target = out if out.is_contiguous() else torch.empty_like(out, memory_format=torch.contiguous_format)
        arguments, extra = run_arguments(self.batch, layer, target, lse)
        call(plan.wrapper.run, arguments, extra)
        if target is not out:
            out.copy_(target)
        return plan.kernel

    def workspaces(self) -> tuple[Workspace, ...]:
        """Return the float workspace with the partial results of split keys.

        The wrapper's integer workspace contains its plan, so it is metadata and not scratch memory.
        """
        return (Workspace(memory=self.workspace),)


def make_fa2(platform: Platform) -> FlashInferFa:
    """Return the fa2 backend. Raises ``BackendUnavailableError`` with what ``platform`` lacks."""
    return _make("fa2", platform)


def make_fa3(platform: Platform) -> FlashInferFa:
    """Return the fa3 backend. Raises ``BackendUnavailableError`` with what ``platform`` lacks."""
    return _make("fa3", platform)


def _make(template: Template, platform: Platform) -> FlashInferFa:
    lacking = capability.missing(template, platform)
    if lacking is not None:
        remedy = f"; remedy: {REMEDY}" if PACKAGE in lacking else ""
        raise BackendUnavailableError(f"flashinfer_{template} {lacking}{remedy}")
    ready_made(platform)  # a kernel cache for another machine is an error now, not in the middle of a run
    return FlashInferFa(template, platform)
