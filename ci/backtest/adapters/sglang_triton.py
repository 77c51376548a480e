"""sglang's Triton kernels: ``decode_attention_fwd`` and ``extend_attention_fwd``, over one slot a token.

The caller of these kernels, sglang's ``TritonAttnBackend``, gives them the slots of the keys in sight: of a windowed
layer the last ``sliding_window_size + 1`` keys of a decode and of a prefix (``update_sliding_window_buffer``, 0.4.7).
``sliding_window_size`` is ``window_left``. Earlier releases have no windows. The keys of new tokens are passed apart.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from attnconf.backends.protocol import REQUIRED, Promises
from attnconf.backends.tables import block_tables_for
from ci.backtest.adapters.calling import call, takes
from ci.backtest.adapters.kernel import KernelBackend, interpreted, rounded_p
from ci.backtest.loading import load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from attnconf.cases.inputs.batch import Batch
    from attnconf.cases.shape import KernelShape

_PLACES = (
    "sglang.kernels.ops.attention",
    "sglang.srt.layers.attention.triton_ops",
    "sglang.srt.layers.triton_attention",
    "sglang.srt.layers",
)
_SPLITS = 8
"""``--triton-attention-num-kv-splits``: its default."""

_NO = {
    name: lambda: False
    for name in ("is_cuda", "is_hip", "is_gfx95_supported", "is_gfx1250_supported", "is_npu", "is_xpu")
}
_STAND_INS: dict[str, dict[str, Any]] = {
    "sglang.srt.utils": _NO,
    "sglang.srt.environ": {"envs": SimpleNamespace()},
    "sglang.srt.server": {"global_server_args_dict": {"triton_attention_reduce_in_fp32": True}},
    "sglang.srt.managers.schedule_batch": {"global_server_args_dict": {"triton_attention_reduce_in_fp32": True}},
}
PROMISES = Promises(
    reclaimed_v=REQUIRED, empty_kv=False, empty_q=False, batch_invariant=False, hint_invariant=False, least_window=1
)


def make(folder: Path, name: str) -> KernelBackend:
    """Return a backend around the kernels of the release that is unpacked in ``folder``."""
    also = [f"{place}.{kind}_attention" for place in _PLACES for kind in ("decode", "extend", "prefill")]
    also += [f"{_PLACES[0]}.score_mod"]
    decode, extend = (
        vars(load(folder, [f"{place}.{kind}_attention" for place in _PLACES], also=also, stand_ins=_STAND_INS))[
            f"{kind}_attention_fwd"
        ]
        for kind in ("decode", "extend")
    )

    def reasons(shape: KernelShape) -> Iterator[str]:
        yield from interpreted(shape)
        if shape.kv_layout != "NHD" or shape.storage != "apart":
            yield f"sglang keeps one row a token, not {shape.kv_layout} in storage {shape.storage}"
        if shape.windowed and not takes(extend, "sliding_window_size"):
            yield "this release has no windows in its Triton kernels"
        if shape.sinks and not takes(extend, "sinks"):
            yield "this release has no sinks in its Triton kernels"
        if shape.head_dim & (shape.head_dim - 1) and takes(decode, "b_start_loc") and not takes(decode, "attn_logits"):
            yield "this release takes head dims that are powers of two"

    def answer(batch: Batch, layer: int, out: torch.Tensor) -> str:
        if batch.mode == "decode":
            call(decode, _decode(batch, layer, out, decode))
            return "decode_attention_fwd"
        call(extend, _extend(batch, layer, out))
        return "extend_attention_fwd"

    return KernelBackend(name, PROMISES, answer, reasons, rounded_p)


def _slots(batch: Batch, layer: int, row: int, first: int, last: int) -> torch.Tensor:
    """Return the slots of tokens [first, last) of one request, [tokens] int32."""
    tokens = torch.arange(first, last)
    pages = block_tables_for(batch, layer)[row].long()[tokens // batch.page_size]
    return (pages * batch.page_size + tokens % batch.page_size).to(torch.int32)


def _indices(batch: Batch, layer: int, ends: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where the keys in sight before ``ends`` lie, request by request: offsets [requests + 1], and slots."""
    window = batch.layers[layer].geometry.window_left
    starts = [0 if window < 0 else max(0, end - window - 1) for end in ends]
    found = [_slots(batch, layer, row, *bounds) for row, bounds in enumerate(zip(starts, ends, strict=True))]
    return _offsets([len(one) for one in found]), torch.cat([*found, torch.zeros(1, dtype=torch.int32)])


def _offsets(lengths: list[int]) -> torch.Tensor:
    return torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0).to(torch.int32)


def _common(batch: Batch, layer: int, out: torch.Tensor) -> dict[str, Any]:
    inputs = batch.layers[layer]
    cache = batch.caches[inputs.cache]
    lengths = list(batch.kv_lens)
    width = max(lengths)
    table = torch.zeros((len(lengths), width), dtype=torch.int32)
    for row, length in enumerate(lengths):
        table[row, :length] = _slots(batch, layer, row, 0, length)
    values = {
        "k_buffer": cache.k.flatten(0, 1),
        "v_buffer": cache.v.flatten(0, 1),
        "sm_scale": inputs.geometry.sm_scale,
        "logit_cap": inputs.geometry.logits_soft_cap or 0.0,
        "sinks": inputs.sinks,
        "k_scale": 1.0,
        "v_scale": 1.0,
        "b_req_idx": torch.arange(len(lengths), dtype=torch.int32),
        "b_seq_len": batch.seq_lens,
        "b_start_loc": _offsets(lengths)[:-1],
        "max_len_in_batch": width,
        "total_num_tokens": sum(lengths),
    }
    return values | dict.fromkeys(("req_to_token", "req_to_tokens"), table) | dict.fromkeys(("o", "o_extend"), out)


def _decode(batch: Batch, layer: int, out: torch.Tensor, decode: Any) -> dict[str, Any]:  # noqa: ANN401 - a function
    inputs = batch.layers[layer]
    heads, dim = inputs.geometry.num_qo_heads, inputs.geometry.head_dim
    indptr, indices = _indices(batch, layer, list(batch.kv_lens))
    rows = len(batch.kv_lens)
    values = _common(batch, layer, out) | {"q": inputs.q, "kv_indptr": indptr, "kv_indices": indices}
    if takes(decode, "max_kv_splits"):
        splits = {
            "attn_logits": torch.empty(rows, heads, _SPLITS, dim),
            "attn_lse": torch.empty(rows, heads, _SPLITS),
            "num_kv_splits": torch.full((rows,), _SPLITS, dtype=torch.int32),
            "max_kv_splits": _SPLITS,
        }
    elif takes(decode, "num_kv_splits"):
        splits = {"attn_logits": torch.empty(rows, heads, _SPLITS, dim + 1), "num_kv_splits": _SPLITS}
    else:
        scratch = torch.empty(heads, sum(batch.kv_lens))
        splits = {"attn_logits": scratch, "att_m": scratch}
    return values | splits


def _extend(batch: Batch, layer: int, out: torch.Tensor) -> dict[str, Any]:
    inputs = batch.layers[layer]
    cache = batch.caches[inputs.cache]
    prefixes = [kv_len - q_len for kv_len, q_len in zip(batch.kv_lens, batch.q_lens, strict=True)]
    indptr, indices = _indices(batch, layer, prefixes)
    new = torch.cat([_slots(batch, layer, row, prefixes[row], end) for row, end in enumerate(batch.kv_lens)]).long()
    return _common(batch, layer, out) | {
        "q_extend": inputs.q,
        "k_extend": cache.k.flatten(0, 1)[new],
        "v_extend": cache.v.flatten(0, 1)[new],
        "qo_indptr": batch.qo_indptr,
        "kv_indptr": indptr,
        "kv_indices": indices,
        "custom_mask": None,
        "mask_indptr": None,
        "is_causal": True,
        "sliding_window_size": inputs.geometry.window_left,
        "max_len_extend": batch.max_q_len,
        "b_seq_len_prefix": torch.tensor(prefixes, dtype=torch.int32),
        "b_start_loc_extend": batch.qo_indptr[:-1].contiguous(),
        "b_seq_len_extend": torch.tensor(batch.q_lens, dtype=torch.int32),
    }
