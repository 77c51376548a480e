"""sglang itself, imported once, with the modules that it would import later.

Without a GPU its Triton kernels are interpreted. Triton decides this where a kernel is defined, so ``TRITON_INTERPRET``
is set during this import only. FlashInfer is hidden from the import: sglang does not use it without a GPU, and parts of
it look for CUDA when they are imported.

On a GPU sglang imports its compiled package ``sgl_kernel`` for norms, activations and quantisation; attention does not
call it. Where only its Python modules are installed, the rest are stand-ins, and the names of the kernels say so.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import sys
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from attnconf.backends.engines.absent import is_whole, stand_ins
from attnconf.backends.engines.loading import check_kernel, load_library
from attnconf.backends.engines.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Iterator

_IMAGES = "torchvision"
"""Imported by sglang's multimodal code, which is never called."""

_COMPILED = "sgl_kernel"
"""Compiled operators of sglang, from the distribution sglang-kernel."""

_KERNELS = "sglang.kernels.ops.attention"
_NAMES = {
    "TritonAttnBackend": "sglang.srt.layers.attention.triton_backend",
    "TRTLLMHAAttnBackend": "sglang.srt.layers.attention.trtllm_mha_backend",
    "RadixAttention": "sglang.srt.layers.radix_attention",
    "ReqToTokenPool": "sglang.srt.mem_cache.memory_pool",
    "MHATokenToKVPool": "sglang.srt.mem_cache.memory_pool",
    "KVWriteLoc": "sglang.srt.mem_cache.memory_pool",
    "SWAKVPool": "sglang.srt.mem_cache.swa_memory_pool",
    "SWATokenToKVPoolAllocator": "sglang.srt.mem_cache.allocator.swa",
    "PagedTokenToKVPoolAllocator": "sglang.srt.mem_cache.allocator.paged",
    "TokenToKVPoolAllocator": "sglang.srt.mem_cache.allocator.token",
    "KVIndexTranslator": "sglang.srt.mem_cache.kv_index_translator",
    "ForwardBatch": "sglang.srt.model_executor.forward_batch_info",
    "ForwardMode": "sglang.srt.model_executor.forward_batch_info",
    "CaptureHiddenMode": "sglang.srt.model_executor.forward_batch_info",
    "ForwardContext": "sglang.srt.model_executor.forward_context",
    "forward_context": "sglang.srt.model_executor.forward_context",
    "EagleVerifyInput": "sglang.srt.speculative.eagle_info",
    "Gemma4ForConditionalGeneration": "sglang.srt.models.gemma4_mm",
    "AttentionArch": "sglang.srt.configs.model_config",
    "PretrainedConfig": "transformers",
    "ServerArgs": "sglang.srt.server_args",
    "create_context": "sglang.srt.runtime_context",
    "use_context": "sglang.srt.runtime_context",
    "override_platform": "sglang.srt.runtime_context",
    "can_use_store_cache": "sglang.kernels.ops.kvcache.kvcache",
}
_LATER = (
    "sglang.srt.model_executor.runner",
    *(f"{_KERNELS}.{name}" for name in ("decode_attention", "extend_attention", "verify_mla", "verify_splitkv")),
)
"""Modules that sglang imports while it makes a backend or runs a layer."""


class Library:
    """The classes and functions of sglang that the adapters use, by name, and the configurations for them.

    ``compiled``: its kernels run on a GPU. ``whole``: no stand-in replaces code that would run on a GPU.
    """

    def __init__(self, *, compiled: bool) -> None:
        self.compiled = compiled
        self.whole = not compiled or is_whole(_COMPILED)
        for module in _LATER:
            importlib.import_module(module)
        self._found = {name: getattr(importlib.import_module(module), name) for name, module in _NAMES.items()}
        kernel = vars(sys.modules[f"{_KERNELS}.decode_attention"])["_fwd_grouped_kernel_stage1"]
        check_kernel("sglang", kernel, compiled=compiled)
        self._device = "cuda" if compiled else "cpu"
        self.arguments = self.ServerArgs(model_path="dummy", device=self._device)
        self._contexts = {1: self.create_context(self.arguments, role="test")}

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - a class or a function of sglang
        if name.startswith("_"):
            raise AttributeError(name)
        return self._found[name]

    @contextmanager
    def running(self, drafts: int = 1) -> Iterator[None]:
        """Run sglang inside the block, with its default configuration and without its warnings and log lines.

        ``drafts`` is the number of tokens of a request in target verification. On a GPU it is in the configuration, as
        in a server's: sglang makes the mask of XQA's draft tokens from it.
        """
        with quiet(logging.WARNING), self.use_context(self._context(drafts if self.compiled else 1)):
            yield

    def _context(self, drafts: int) -> Any:  # noqa: ANN401 - sglang's RuntimeContext
        if drafts not in self._contexts:
            arguments = self.ServerArgs(
                model_path="dummy",
                device=self._device,
                speculative_algorithm="EAGLE",
                speculative_num_steps=drafts - 1,
                speculative_eagle_topk=1,
                speculative_num_draft_tokens=drafts,
            )
            self._contexts[drafts] = self.create_context(arguments, role="test")
        return self._contexts[drafts]


@cache
def library() -> Library:
    """Return sglang. Raises ``BackendUnavailableError`` when it does not load."""
    return load_library("sglang", _compiled, _interpreted)


def _compiled() -> Library:
    with quiet(logging.WARNING), stand_ins(_IMAGES, parts=(_COMPILED,)):
        return Library(compiled=True)


def _interpreted() -> Library:
    before = os.environ.get("TRITON_INTERPRET")
    os.environ["TRITON_INTERPRET"] = "1"
    try:
        with quiet(logging.WARNING), _without_flashinfer(), stand_ins(_IMAGES):
            return Library(compiled=False)
    finally:
        if before is None:
            os.environ.pop("TRITON_INTERPRET", None)
        else:
            os.environ["TRITON_INTERPRET"] = before


@contextmanager
def _without_flashinfer() -> Iterator[None]:
    """Make ``import flashinfer`` fail inside the block, as if it were not installed."""
    name = "flashinfer"
    modules = cast("dict[str, Any]", sys.modules)
    before = {name: modules[name]} if name in modules else {}
    modules[name] = None  # Python then raises ImportError
    try:
        yield
    finally:
        del modules[name]
        modules.update(before)
