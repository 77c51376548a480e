"""sglang itself on a machine without a GPU, imported once and as a whole: what it would import later is here, too.

Its Triton kernels are interpreted: Triton decides so where a kernel is defined, so ``TRITON_INTERPRET`` is set for this
import alone. FlashInfer is hidden from the import: sglang uses none of it without a GPU, and parts of it look for CUDA
when they are imported.
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

from attnconf.engines.absent import stand_ins
from attnconf.engines.quiet import quiet
from attnconf.errors import BackendUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

_IMAGES = "torchvision"
"""Imported by sglang's multimodal code, of which nothing is called."""

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
    "AttentionArch": "sglang.srt.configs.model_config",
    "PretrainedConfig": "transformers",
    "ServerArgs": "sglang.srt.server_args",
    "create_context": "sglang.srt.runtime_context",
    "use_context": "sglang.srt.runtime_context",
    "override_platform": "sglang.srt.runtime_context",
}
_LATER = (
    "sglang.srt.model_executor.runner",
    *(f"{_KERNELS}.{name}" for name in ("decode_attention", "extend_attention", "verify_mla", "verify_splitkv")),
)
"""Modules that sglang imports while it makes a backend or runs a layer."""


class Library:
    """The classes and functions of sglang that the adapters use, by name, and the configuration that they run under."""

    def __init__(self) -> None:
        for module in _LATER:
            importlib.import_module(module)
        self._found = {name: getattr(importlib.import_module(module), name) for name, module in _NAMES.items()}
        _check_interpreted()
        self.arguments = self.ServerArgs(model_path="dummy", device="cpu")
        self._context = self.create_context(self.arguments, role="test")

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - a class or a function of sglang
        if name.startswith("_"):
            raise AttributeError(name)
        return self._found[name]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let sglang run inside the block: under its default configuration, and without its warnings and log lines."""
        with quiet(logging.WARNING), self.use_context(self._context):
            yield


@cache
def library() -> Library:
    """Return sglang. Raises ``BackendUnavailableError`` when it does not load."""
    before = os.environ.get("TRITON_INTERPRET")
    os.environ["TRITON_INTERPRET"] = "1"
    try:
        with quiet(logging.WARNING), _without_flashinfer(), stand_ins(_IMAGES):
            return Library()
    except BackendUnavailableError:
        raise
    except Exception as error:
        message = f"sglang does not load: {type(error).__name__}: {error}"
        raise BackendUnavailableError(message) from error
    finally:
        if before is None:
            os.environ.pop("TRITON_INTERPRET", None)
        else:
            os.environ["TRITON_INTERPRET"] = before


def _check_interpreted() -> None:
    from triton.runtime.interpreter import InterpretedFunction

    kernel = vars(sys.modules[f"{_KERNELS}.decode_attention"])["_fwd_grouped_kernel_stage1"]
    if not isinstance(kernel, InterpretedFunction):
        message = (
            "sglang was imported before in this process, and its kernels would be compiled for a GPU that is not there;"
            " ask it in a process of its own"
        )
        raise BackendUnavailableError(message)


@contextmanager
def _without_flashinfer() -> Iterator[None]:
    """Let ``import flashinfer`` fail inside the block, as if it were not installed."""
    name = "flashinfer"
    modules = cast("dict[str, Any]", sys.modules)
    before = {name: modules[name]} if name in modules else {}
    modules[name] = None  # Python's own mark of a module that must not be imported
    try:
        yield
    finally:
        del modules[name]
        modules.update(before)
