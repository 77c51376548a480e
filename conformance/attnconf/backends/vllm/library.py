"""vLLM itself, imported once. Without a GPU its Triton kernels are interpreted, and its platform is unspecified.

Triton decides where a kernel is defined whether it is interpreted, so ``TRITON_INTERPRET`` is set for the import alone.
vLLM takes Triton for unusable where no GPU's driver is active, unless ``CUDA_VISIBLE_DEVICES`` is empty: then it
expects the driver later. So that is set, too.
"""

from __future__ import annotations

import importlib
import os
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch

from attnconf.engines.quiet import quiet
from attnconf.errors import BackendUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

_BACKEND = "vllm.v1.attention.backends.triton_attn"
_KERNELS = "vllm.v1.attention.ops.triton_unified_attention"
_NAMES = {
    "Attention": "vllm.model_executor.layers.attention",
    "TritonAttentionBackend": _BACKEND,
    "CommonAttentionMetadata": "vllm.v1.attention.backend",
    "FullAttentionSpec": "vllm.v1.kv_cache_interface",
    "SlidingWindowSpec": "vllm.v1.kv_cache_interface",
    "SchedulerConfig": "vllm.config",
    "CUDAGraphMode": "vllm.config",
    "set_current_vllm_config": "vllm.config",
    "create_forward_context": "vllm.forward_context",
    "override_forward_context": "vllm.forward_context",
    "get_block_table_width": "vllm.v1.worker.block_table",
    "PAD_SLOT_ID": "vllm.v1.attention.backends.utils",
}


class Library:
    """The classes and functions of vLLM that the adapter uses, by name."""

    def __init__(self) -> None:
        self._found = {name: getattr(importlib.import_module(module), name) for name, module in _NAMES.items()}
        _check_interpreted()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - a class or a function of vLLM
        if name.startswith("_"):
            raise AttributeError(name)
        return self._found[name]

    @contextmanager
    def running(self, config: Any) -> Iterator[None]:  # noqa: ANN401 - in the place of a VllmConfig
        """Let vLLM run inside the block: under ``config``, and without its warnings and log lines.

        Its writer of KV asks torch for a compute capability, by which it sizes its launches: here 9.0.
        """
        capability = mock.patch.object(torch.cuda, "get_device_capability", return_value=(9, 0))
        with quiet(), capability, self.set_current_vllm_config(config):
            yield


@cache
def library() -> Library:
    """Return vLLM. Raises ``BackendUnavailableError`` when it does not load, or cannot be interpreted here."""
    if torch.cuda.is_available():
        message = "the adapter runs vLLM's kernels through Triton's interpreter, on machines without a GPU"
        raise BackendUnavailableError(message)
    settings = {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    try:
        with mock.patch.dict(os.environ, settings), quiet():
            return Library()
    except BackendUnavailableError:
        raise
    except Exception as error:
        message = f"vllm does not load: {type(error).__name__}: {error}"
        raise BackendUnavailableError(message) from error


def _check_interpreted() -> None:
    from triton.runtime.interpreter import InterpretedFunction

    kernel = vars(importlib.import_module(_KERNELS))["kernel_unified_attention"]
    if not isinstance(kernel, InterpretedFunction):
        message = (
            "vllm was imported before in this process, and its kernels would be compiled for a GPU that is not there;"
            " ask it in a process of its own"
        )
        raise BackendUnavailableError(message)
