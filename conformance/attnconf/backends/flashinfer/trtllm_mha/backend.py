"""The backend trtllm_mha: prepare a batch, then call FlashInfer or execute its documented contract per layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from attnconf.backends.flashinfer import floors, jit, library, places
from attnconf.backends.flashinfer.built import BuiltByFlashInfer
from attnconf.backends.flashinfer.cache import ready_made
from attnconf.backends.flashinfer.package import PACKAGE, REMEDY, library_version
from attnconf.backends.flashinfer.tokens import answered_rows
from attnconf.backends.flashinfer.trtllm_gen import shapes as listed
from attnconf.backends.flashinfer.trtllm_gen.launched import launched
from attnconf.backends.flashinfer.trtllm_mha import capability, contract, precision, variants
from attnconf.backends.flashinfer.trtllm_mha.build import jit_spec
from attnconf.backends.flashinfer.trtllm_mha.calls import Call, Metadata, build_call, build_metadata
from attnconf.backends.flashinfer.trtllm_mha.dispatch import FUNCTIONS, Family, Generation, family, generation
from attnconf.backends.flashinfer.trtllm_mha.signature import bind
from attnconf.backends.flashinfer.trtllm_mha.stacked import stacked_view
from attnconf.backends.flashinfer.trtllm_mha.workspace import workspace, zero_bytes
from attnconf.backends.protocol import FINITE, REQUIRED, Promises, Unsupported, Workspace
from attnconf.cases.dtypes import FP8
from attnconf.cases.shape import batch_shape
from attnconf.errors import BackendUnavailableError, UnsupportedError
from attnconf.precision import NumericsProfile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from attnconf.backends.builds import Build, BuildReport
    from attnconf.backends.protocol import EvidenceKind
    from attnconf.cases.inputs.batch import Batch, KVCache
    from attnconf.cases.shape import KernelShape
    from attnconf.platforms import Platform

_COPIED = "+page-copy"
"""The end of a kernel's name where the pages were copied for it."""

_MISSING_KERNEL = ("Missing TRTLLM-GEN kernel", "Trtllm-gen kernels not found")
"""How FlashInfer says it (trtllm_fmha_kernel_launcher.cu and fmhaKernels.cuh of every release to 0.7.4)."""


@dataclass(frozen=True)
class TrtllmMha(BuiltByFlashInfer):
    """FlashInfer's TensorRT-LLM kernels on one platform, or their documented contract without such a GPU."""

    platform: Platform

    @property
    def reads_contract(self) -> bool:
        """Whether the documented contract is executed, since the machine has none of the kernels."""
        return self.platform.sm is None or generation(self.platform.sm) is None

    @property
    def machine(self) -> Generation:
        """The GPU generation for which calls are made; the contract is that of SM100."""
        return generation(self.platform.sm) or "sm100"

    @property
    def name(self) -> str:
        """The name in reports and receipts."""
        return "trtllm_mha"

    @property
    def evidence(self) -> EvidenceKind:
        """What a run proves: the kernel, or only the adapter's translation."""
        return "contract" if self.reads_contract else "kernel"

    @property
    def promises(self) -> Promises:
        """The optional clauses kept: what is documented, and for XQA what was measured on an H200.

        FlashInfer does not document rows without keys, equality of bits, or unused table columns. trtllm-gen has an LSE
        since 0.6.12, in base two. Both kernels of SM 9.0 multiply masked values by zero, so an infinity or a NaN among
        these reaches the output: in FMHA v2, and in XQA over 8-bit KV, from the rest of a last page; in XQA over 16-bit
        KV from a reclaimed page only. There even finite values may become infinite: with several query tokens, XQA sums
        a tile that a row does not see with weight 1 before it scales it away (safeInitRowMax in csrc/xqa/mha.cu; the
        vector gemma4-e2b-verify-masked-tile). Keys may be anything.
        """
        version = library_version(self.platform)
        has_lse = self.machine == "sm100" and version is not None and version >= floors.GEN_LSE.since
        if self.reads_contract:
            # The documented lengths say which keys exist, and the contract reads no others.
            return Promises(empty_kv=False, deterministic=False, batch_invariant=False, lse="two" if has_lse else None)
        if self.machine == "sm100":
            return Promises(
                dead_k=REQUIRED,
                dead_v=REQUIRED,
                reclaimed_v=REQUIRED,
                table_tail=frozenset({"null", "stale"}),
                empty_kv=False,
                empty_q=False,
                deterministic=False,
                batch_invariant=False,
                cuda_graph=True,
                lse="two" if has_lse else None,
            )
        return Promises(
            dead_v=FINITE,
            reclaimed_v=REQUIRED,
            empty_kv=False,
            empty_q=False,
            batch_invariant=False,
            cuda_graph=True,
        )

    def supports(self, shape: KernelShape, platform: Platform) -> Unsupported | None:
        """Return None, or why the kernels of ``platform`` cannot run ``shape``; pure."""
        return capability.supports(shape, platform)

    def numerics(self, shape: KernelShape) -> NumericsProfile:
        """Return the dtypes of the kernel's intermediate values."""
        return NumericsProfile() if self.reads_contract else precision.numerics(shape, self.machine)

    def kernels(self, shape: KernelShape) -> frozenset[str]:
        """Return the kernel family for ``shape``, also over copied pages, or the documented function instead.

        Where FlashInfer's list and selector are known, the kernels of the list are named behind the family. The family
        alone then stands for a launch that nobody could see, such as one in the capture of a CUDA graph.
        """
        kernel = family(shape.mode, self.machine)
        if self.reads_contract:
            return frozenset({f"contract:{FUNCTIONS[kernel][1]}"})
        if self.machine == "sm100":
            return frozenset({kernel, *(_named(kernel, name) for name in listed.names(shape, self.platform))})
        return frozenset({kernel, f"{kernel}{_COPIED}"})

    def builds(self, shapes: Iterable[KernelShape]) -> tuple[Build, ...]:
        """Return the modules that FlashInfer compiles for the supported ones of ``shapes``; pure."""
        return () if self.reads_contract else variants.builds(shapes, self.platform)

    def build(self, builds: Sequence[Build], jobs: int, progress: Callable[[str], None]) -> BuildReport:
        """Build what is missing."""
        return jit.build_all(builds, self.platform, jit_spec, jobs, progress)

    def prepare(self, batch: Batch) -> PreparedCalls:
        """Build the metadata. Raises ``UnsupportedError`` and ``BackendUnavailableError`` before any launch."""
        if self.platform.simulated:
            raise BackendUnavailableError(f"{self.name} cannot run on a simulated platform ({self.platform.device})")
        kernel = family(batch.mode, self.machine)
        _refuse(batch, kernel, self.promises)
        refuse_caches(batch, kernel)
        if not self.reads_contract:
            places.environment(self.platform)
        function = library.load(*FUNCTIONS[kernel])
        metadata = build_metadata(batch, kernel)
        scratch = workspace(batch.device, kernel)
        predicted = not self.reads_contract and self.machine == "sm100" and listed.is_known(self.platform)
        return PreparedCalls(
            batch, kernel, self.machine, metadata, scratch, function, self.promises, self.reads_contract, predicted
        )


@dataclass(frozen=True)
class PreparedCalls:
    """A batch with its metadata, its workspace and the function for its mode.

    Where the kernels are ``predicted`` by name, the names of those that run are looked up, too.
    """

    batch: Batch
    kernel: Family
    machine: Generation
    metadata: Metadata
    workspace: torch.Tensor
    function: Callable[..., Any]
    promises: Promises
    reads_contract: bool
    predicted: bool = False

    def run(self, layer: int, out: torch.Tensor, lse: torch.Tensor | None) -> str:
        """Run one layer into ``out`` and ``lse``, and return the name of the kernel that ran.

        Raises ``SignatureMismatchError`` when the installed function does not take the call, and ``UnsupportedError``
        for a layer that it does take and would answer wrongly, or refuse without a reason.
        """
        if lse is not None and self.promises.lse is None:
            raise UnsupportedError(f"{self.kernel} of flashinfer {library.version()} returns no LSE")
        refusal = capability.unserved(batch_shape(self.batch, layer), self.kernel, self.machine)
        if refusal is not None:
            raise UnsupportedError(refusal)
        out, lse = answered_rows(self.batch, out, lse)
        target = out if out.is_contiguous() else torch.empty_like(out, memory_format=torch.contiguous_format)
        call = build_call(self.kernel, self.batch, layer, self.metadata, workspace=self.workspace, out=target, lse=lse)
        name = self._launch(call)
        if target is not out:
            out.copy_(target)
        return name

    def update(self, batch: Batch) -> None:
        """Refresh tables, lengths and the mask of drafts in place. Raises ``UnsupportedError`` over copies of pages."""
        fresh = build_metadata(batch, self.kernel)
        if self.kernel == "fmha_v2" and any(stacked_view(cache) is None for cache in _of_one_width(batch)):
            message = "fmha_v2 over copied pages cannot be replayed: the copies are made before the launch"
            raise UnsupportedError(message)
        for kept, table in zip(self.metadata.tables, fresh.tables, strict=True):
            kept.copy_(table)
        self.metadata.cum_seq_lens_kv.copy_(fresh.cum_seq_lens_kv)
        if self.metadata.mask is not None and fresh.mask is not None:
            self.metadata.mask.copy_(fresh.mask)

    def workspaces(self) -> tuple[Workspace, ...]:
        """Return the workspace. Without a GPU it is small, and all of the part that must be zero is in it."""
        kept = min(zero_bytes(self.kernel, self.function), self.workspace.numel())
        return (Workspace(memory=self.workspace, zero_bytes=kept),)

    def _launch(self, call: Call) -> str:
        bound = bind(self.function, call.function, call.arguments, library.version())
        if self.reads_contract:
            contract.execute(call.function, bound)
            return f"contract:{call.function}"
        try:
            if self.predicted:
                return _named(self.kernel, *launched(lambda: self.function(**call.arguments)))
            self.function(**call.arguments)
        except Exception as error:
            if names_missing_kernel(error):
                raise UnsupportedError(
                    f"{self.kernel} of flashinfer {library.version()} has no such kernel: {error}"
                ) from error
            raise
        return f"{self.kernel}{_COPIED}" if call.copied else self.kernel


def make(platform: Platform) -> TrtllmMha:
    """Return the backend for ``platform``. Raises ``BackendUnavailableError`` when flashinfer-python is missing."""
    if PACKAGE not in platform.packages:
        raise BackendUnavailableError(f"trtllm_mha needs {PACKAGE}, which is not installed; remedy: {REMEDY}")
    backend = TrtllmMha(platform)
    if not backend.reads_contract:
        ready_made(platform)  # a kernel cache for another machine is an error now, not half an hour later
    return backend


def names_missing_kernel(error: Exception) -> bool:
    """Return whether FlashInfer says that its list has no such kernel: it found that out before any launch."""
    return any(words in str(error) for words in _MISSING_KERNEL)


def _named(kernel: Family, *names: str) -> str:
    """Return the family with the kernels that ran, or were predicted, behind it."""
    return "/".join((kernel, *names))


def _refuse(batch: Batch, kernel: Family, promises: Promises) -> None:
    if min(batch.kv_lens) == 0:
        raise UnsupportedError(f"{kernel} documents no answer for a request without keys")
    if kernel in {"xqa", "trtllm-gen-decode"}:
        if len(set(batch.q_lens)) > 1 or batch.q_lens[0] == 0:
            raise UnsupportedError(f"{kernel} takes the same number of query tokens, at least 1, from every request")
    elif min(batch.q_lens) == 0 and not promises.empty_q:
        raise UnsupportedError(f"{kernel} documents no request without query tokens")


def refuse_caches(batch: Batch, kernel: Family) -> None:
    """Refuse memory that the kernels would misread and FlashInfer does not check. Raises ``UnsupportedError``.

    The query's dtype alone picks the module of FMHA v2, and FlashInfer raises a bare ``KeyError`` for other dtypes. The
    other kernels use the strides of K for both, and XQA counts them in heads. A layer whose values have another width
    is refused when it runs.
    """
    for cache in _of_one_width(batch):
        if kernel != "fmha_v2":
            _refuse_strides(cache, kernel)
        else:
            _refuse_dtypes(batch.layers[0].q.dtype, cache.k.dtype)


def _of_one_width(batch: Batch) -> list[KVCache]:
    """Return the caches whose values are as wide as their keys."""
    return [cache for cache in batch.caches if cache.k.shape[-1] == cache.v.shape[-1]]


def _refuse_dtypes(q_dtype: torch.dtype, kv_dtype: torch.dtype) -> None:
    wanted, stored = (str(dtype).removeprefix("torch.") for dtype in (q_dtype, kv_dtype))
    if wanted not in (*capability.SIXTEEN_BIT, FP8):
        raise UnsupportedError(f"fmha_v2 has no module for {wanted} queries")
    if stored != wanted:
        message = f"fmha_v2 would read {stored} keys as {wanted}: its kernel is picked by the query's dtype alone"
        raise UnsupportedError(message)


def _refuse_strides(cache: KVCache, kernel: Family) -> None:
    if cache.k.stride() != cache.v.stride() or cache.k.stride(-1) != 1:
        raise UnsupportedError(f"{kernel} reads keys and values with one set of strides, head_dim 1 apart")
    head_dim = cache.k.shape[-1]
    outer = cache.k.stride()[:-1]
    if kernel == "xqa" and any(stride % head_dim for stride in outer):
        raise UnsupportedError(f"xqa takes strides that are multiples of head_dim {head_dim}, not {outer}")
