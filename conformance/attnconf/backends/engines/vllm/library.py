"""vLLM itself, imported once. Without a GPU its Triton kernels are interpreted, and its platform is unspecified.

Triton decides where a kernel is defined whether it is interpreted, so ``TRITON_INTERPRET`` is set during the import
only. vLLM does not use Triton without an active GPU driver, unless ``CUDA_VISIBLE_DEVICES`` is empty: then it expects
the driver later. So that variable is set, too.

On a GPU vLLM finds its own CUDA platform, and imports its compiled extensions. The Triton backend does not call them,
since it also writes keys and values by a Triton kernel. They are hundreds of megabytes; an extension that is not
installed gets a stand-in, and the names of the kernels say so.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from contextlib import contextmanager, nullcontext
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch

from attnconf.backends.engines.absent import stand_ins
from attnconf.backends.engines.loading import check_kernel, load_library
from attnconf.backends.engines.quiet import quiet
from attnconf.errors import BackendUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

_BACKEND = "vllm.v1.attention.backends.triton_attn"
_KERNELS = "vllm.v1.attention.ops.triton_unified_attention"
_EXTENSIONS = (
    "vllm._C_stable_libtorch",
    "vllm.vllm_flash_attn._vllm_fa2_C",
    "vllm.vllm_flash_attn._vllm_fa3_C",
)
"""Compiled extensions without which vLLM's modules do not load on a GPU."""

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
    "PlaceholderRange": "vllm.multimodal.inputs",
    "compute_mm_prefix_ranges": "vllm.v1.attention.backends.utils",
}


class Library:
    """The classes and functions of vLLM that the adapter uses, by name.

    ``compiled``: its kernels run on a GPU. ``whole``: its compiled extensions are installed.
    """

    def __init__(self, *, compiled: bool) -> None:
        self.compiled = compiled
        self.whole = not _lacking()
        self._found = {name: getattr(importlib.import_module(module), name) for name, module in _NAMES.items()}
        kernel = vars(importlib.import_module(_KERNELS))["kernel_unified_attention"]
        check_kernel("vllm", kernel, compiled=compiled)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - a class or a function of vLLM
        if name.startswith("_"):
            raise AttributeError(name)
        return self._found[name]

    @property
    def how(self) -> str:
        """How the kernels run, and the missing parts of vLLM."""
        if not self.compiled:
            return "interpreted"
        return "compiled" if self.whole else "compiled, without vllm's extensions"

    def gemma4(self) -> Any:  # noqa: ANN401 - a class of vLLM
        """Return vLLM's Gemma 4, which batches with images alone need: its module imports those of image processors."""
        with quiet():
            return importlib.import_module("vllm.model_executor.models.gemma4_mm").Gemma4ForConditionalGeneration

    @contextmanager
    def running(self, config: Any) -> Iterator[None]:  # noqa: ANN401 - a substitute for a VllmConfig
        """Run vLLM inside the block with ``config``, and without its warnings and log lines.

        Its writer of KV sizes its launches by torch's compute capability, which is 9.0 here without a GPU, and there
        ranges of images are copied from memory that is not pinned.
        """
        with quiet(), nullcontext() if self.compiled else _without_a_gpu(), self.set_current_vllm_config(config):
            yield


@contextmanager
def _without_a_gpu() -> Iterator[None]:
    """Answer what vLLM asks torch and itself of the GPU that it expects."""
    capability = mock.patch.object(torch.cuda, "get_device_capability", return_value=(9, 0))
    with capability, mock.patch("vllm.utils.torch_utils.PIN_MEMORY", new=False):
        yield


@cache
def library() -> Library:
    """Return vLLM. Raises ``BackendUnavailableError`` when it does not load."""
    return load_library("vllm", _compiled, _interpreted)


def _compiled() -> Library:
    with quiet(), stand_ins(always=_lacking()):
        platform = importlib.import_module("vllm.platforms").current_platform
        if not platform.is_cuda():
            message = f"vllm takes this machine for {type(platform).__name__}, not for one with an NVIDIA GPU"
            raise BackendUnavailableError(message)
        return Library(compiled=True)


def _interpreted() -> Library:
    settings = {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    with mock.patch.dict(os.environ, settings), quiet():
        return Library(compiled=False)


def _lacking() -> tuple[str, ...]:
    """Return those of ``_EXTENSIONS`` that are not installed."""
    package = importlib.util.find_spec("vllm")
    places = () if package is None else package.submodule_search_locations or ()

    def found(name: str) -> bool:
        folders = [str(Path(place).joinpath(*name.split(".")[1:-1])) for place in places]
        return PathFinder.find_spec(name, folders) is not None

    return tuple(name for name in _EXTENSIONS if not found(name))
