"""What vLLM's kernel modules import beside themselves, as stand-ins; and the tables that its kernels read."""

from __future__ import annotations

from enum import IntEnum
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl

from attnconf.backends.tables import block_tables_for

if TYPE_CHECKING:
    from attnconf.cases.inputs.batch import Batch

PLACES = ("vllm.v1.attention.ops", "vllm.attention.ops")
_SPARE_TOKENS = 128
"""Tokens of the widest tile: vLLM's tables are as wide as the longest model, and tiles read past a sequence's end."""


class _QuantMode(IntEnum):
    """``KVQuantMode`` of releases from 0.20 on."""

    NONE = 0
    FP8_PER_TENSOR = 1
    INT8_PER_TOKEN_HEAD = 2
    FP8_PER_TOKEN_HEAD = 3
    INT4_PER_TOKEN_HEAD = 4


class _Logger:
    def __getattr__(self, _: str) -> Any:  # noqa: ANN401 - any method of a logger
        return lambda *_args, **_kwargs: None


def _no(*_args: object, **_kwargs: object) -> bool:
    return False


PLATFORM = SimpleNamespace(
    fp8_dtype=lambda: torch.float8_e4m3fn,
    is_rocm=_no,
    is_cuda=_no,
    is_xpu=_no,
    is_cpu=_no,
    is_cuda_alike=_no,
    is_fp8_fnuz=_no,
    has_device_capability=_no,
    is_device_capability_family=_no,
    get_device_capability=lambda: (9, 0),
)
STAND_INS: dict[str, dict[str, Any]] = {
    "vllm.logger": {"init_logger": lambda _: _Logger()},
    "vllm.platforms": {"current_platform": PLATFORM},
    "vllm.platforms.rocm": {"use_rocm_custom_paged_attention": _no},
    "vllm.triton_utils": {"triton": triton, "tl": tl, "HAS_TRITON": True, "LOG2E": 1.4426950408889634},
    "vllm.envs": {"VLLM_BATCH_INVARIANT": False, "VLLM_TRITON_ATTN_USE_TD": False},
    "vllm._custom_ops": {},
    "vllm.model_executor.layers.batch_invariant": {"vllm_is_batch_invariant": _no},
    "vllm.v1.kv_cache_interface": {"KVQuantMode": _QuantMode},
}


def modules(name: str) -> list[str]:
    """Return the places of a kernel module, newest first."""
    return [f"{place}.{name}" for place in PLACES]


def tables(batch: Batch, layer: int) -> torch.Tensor:
    """Return the block table with columns behind the longest sequence, as vLLM's own has them."""
    found = block_tables_for(batch, layer)
    spare = found.new_zeros((found.shape[0], -(-_SPARE_TOKENS // batch.page_size) + 1))
    return torch.cat([found, spare], dim=1)


def new_tokens(batch: Batch, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the keys and values of the query tokens, [tokens, num_kv_heads, head_dim] each."""
    cache = batch.caches[batch.layers[layer].cache]
    table = block_tables_for(batch, layer).long()
    pages, slots = [], []
    for row, (q_len, kv_len) in enumerate(zip(batch.q_lens, batch.kv_lens, strict=True)):
        positions = torch.arange(kv_len - q_len, kv_len)
        pages.append(table[row][positions // batch.page_size])
        slots.append(positions % batch.page_size)
    at = torch.cat(pages), torch.cat(slots)
    k, v = (view if batch.kv_layout == "NHD" else view.transpose(1, 2) for view in (cache.k, cache.v))
    return k[at], v[at]
