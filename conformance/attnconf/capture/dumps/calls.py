"""Calls: FlashInfer's paged attention functions, each as a layer call."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, cast, get_args

from attnconf.capture.call import LayerCall, Memory, UnsayableError
from attnconf.capture.dumps.arguments import (
    apart_from_null,
    differences,
    has_sinks,
    layout_of,
    out_dtype,
    refuse,
    tables_of,
    whole,
)
from attnconf.capture.dumps.dump import Strided
from attnconf.capture.dumps.views import Cache, cache_of, with_blocks
from attnconf.cases.case import Layer, QuerySide
from attnconf.cases.dtypes import QUANTISED, KVDtype, QDtype

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.capture.call import Table
    from attnconf.capture.dumps.dump import Dump
    from attnconf.cases.case import KVLayout, Mode, TableTail

_NAMES, _STORED = get_args(QDtype), get_args(KVDtype)


def decode_call(dump: Dump) -> LayerCall:
    """Return a call of ``trtllm_batch_decode_with_kv_cache`` or ``xqa_batch_decode_with_kv_cache``."""
    refuse(dump, "mask", "o_sf_scale", "o_sf_vec_size")
    q, kv_lens = dump.tensor("query"), whole(dump.numbers("seq_lens"))
    starts = dump.get("cum_seq_lens_q") or dump.get("q_cu_seq_lens")
    if isinstance(starts, Strided):
        name = "cum_seq_lens_q" if dump.get("cum_seq_lens_q") is not None else "q_cu_seq_lens"
        q_lens = differences(dump.numbers(name))
    else:
        q_lens = (int(dump.get("q_len_per_req") or 1),) * len(kv_lens)
    mode: Mode = "decode" if set(q_lens) == {1} else "verify"
    cache = _cache(dump, "kv_cache", layout_of(dump))
    return _call(dump, q, cache, q_lens, kv_lens, mode=mode, hint=dump.whole("max_seq_len"))


def context_call(dump: Dump) -> LayerCall:
    """Return a call of ``trtllm_batch_context_with_kv_cache``."""
    refuse(dump, "o_sf_scale", "o_sf_vec_size")
    if dump.get("causal") is False:
        raise UnsayableError("a call that is not causal")
    cache = _cache(dump, "kv_cache", layout_of(dump))
    return _prefill(dump, dump.tensor("query"), cache)


def fmha_v2_call(dump: Dump) -> LayerCall:
    """Return a call of ``trtllm_fmha_v2_prefill`` over a paged cache."""
    layout = str(dump.get("input_layout"))
    if not layout.startswith("Q_PAGED_KV_"):
        raise UnsayableError(f"a call over {layout}, which is no paged cache")
    if dump.get("mask_mode") not in {"causal", "sliding_window"}:
        raise UnsayableError(f"mask mode {dump.get('mask_mode')}")
    if dump.get("chunked_attention_size"):
        raise UnsayableError("a chunked call")
    parts = dump.get("qkv")
    if not (isinstance(parts, tuple) and len(parts) == 2 and isinstance(parts[0], Strided)):  # noqa: PLR2004 - q and kv
        raise UnsayableError("a call whose caches are no pair")
    cache = cache_of(parts[1], cast("KVLayout", layout[-3:]), dump.folder)
    return _prefill(dump, parts[0], cache, cap="logits_soft_cap_scale")


def _cache(dump: Dump, name: str, layout: KVLayout) -> Cache:
    return with_blocks(cache_of(dump.get(name), layout, dump.folder), dump.get("kv_cache_sf"), dump.folder)


def _prefill(dump: Dump, q: Strided, cache: Cache, cap: str = "") -> LayerCall:
    q_lens, kv_lens = differences(dump.numbers("cum_seq_lens_q")), whole(dump.numbers("seq_lens"))
    mode: Mode = "mixed" if 1 in q_lens and max(q_lens, default=0) > 1 else "extend"
    return _call(dump, q, cache, q_lens, kv_lens, mode=mode, hint=dump.whole("max_kv_len"), cap=cap)


def _call(  # noqa: PLR0913 - what these functions have in common
    dump: Dump,
    q: Strided,
    cache: Cache,
    q_lens: tuple[int, ...],
    kv_lens: tuple[int, ...],
    *,
    mode: Mode,
    hint: int,
    cap: str = "",
) -> LayerCall:
    if dump.get("uses_shared_paged_kv_idx") is False:
        raise UnsayableError("tables of keys and of values that differ")
    window = dump.whole("window_left")
    table = dump.numbers("block_tables")
    if table and table[0] and isinstance(table[0][0], list):
        raise UnsayableError("tables of keys and of values that differ")
    tables, tail = tables_of(table, kv_lens, cache.page_size)
    values = dump.number("bmm2_scale")
    width = len(table[0]) if table else 0
    soft_cap = (dump.number(cap, 0.0) or None) if cap else None
    layer = _layer(dump, q, cache, window=window, scale=dump.number("bmm1_scale"), v_scale=values, cap=soft_cap)
    slack = max(0, dump.tensor("block_tables").stride[0] - width) if len(kv_lens) > 1 else 0
    return _layer_call(
        layer, q, cache, q_lens, kv_lens, tables,
        mode=mode, hint=hint, out=out_dtype(dump, q), columns=width, slack=slack, tail=tail,
    )  # fmt: skip


def wrapper_call(plan: Dump, run: Dump, layout: str) -> LayerCall:
    """Return a call of a wrapper's ``run`` after its ``plan``."""
    decodes = "Decode" in run.function
    plan = _with_legacy(plan) if decodes else plan
    refuse(plan, "custom_mask", "packed_custom_mask", "prefix_len_ptr")
    if plan.get("window_right"):
        raise UnsayableError("a call with window_right")
    if (plan.get("pos_encoding_mode") or "NONE") != "NONE":
        raise UnsayableError(f"position encoding {plan.get('pos_encoding_mode')} within attention")
    names = ("indptr", "indices", "last_page_len") if decodes else _PREFILL_NAMES
    indptr, indices, last = (whole(plan.numbers(name)) for name in names)
    size = plan.whole("page_size")
    cache = _cache(run, "paged_kv_cache", cast("KVLayout", layout))
    tables = tuple(indices[start:stop] for start, stop in pairwise(indptr))
    kv_lens = tuple(
        (len(table) - 1) * size + tokens if table else 0 for table, tokens in zip(tables, last, strict=True)
    )
    q = run.tensor("q")
    if decodes:
        q_lens = (int(run.get("q_len_per_req") or 1),) * len(kv_lens)
        mode: Mode = "decode" if set(q_lens) == {1} else "verify"
    else:
        q_lens = differences(plan.numbers("qo_indptr"))
        mode = "mixed" if 1 in q_lens and max(q_lens) > 1 else "decode" if set(q_lens) == {1} else "extend"
        if not plan.get("causal") and max(q_lens, default=0) > 1:
            raise UnsayableError("a call that is not causal")
    given = run.get("window_left")
    window = int(plan.number("window_left", -1) if given is None else given)
    scale = plan.number("sm_scale", q.shape[2] ** -0.5) * run.number("q_scale")
    layer = _layer(
        run, q, cache, window=window, scale=scale, k_scale=run.number("k_scale"), v_scale=run.number("v_scale"),
        cap=plan.number("logits_soft_cap", 0.0) or None,
    )  # fmt: skip
    return _layer_call(layer, q, cache, q_lens, kv_lens, tables, mode=mode, hint=0, out=out_dtype(run, q))


def _with_legacy(plan: Dump) -> Dump:
    """Return the plan of a decode with what was given by place behind its names, as FlashInfer still allows."""
    more = dict(zip(_LEGACY, plan.more, strict=False))
    return replace(plan, arguments={**more, **plan.arguments})


_LEGACY = (
    "pos_encoding_mode",
    "window_left",
    "logits_soft_cap",
    "q_data_type",
    "kv_data_type",
    "o_data_type",
    "data_type",
    "sm_scale",
)
"""Names by place (0.6.18.post1, ``_BATCH_DECODE_PLAN_LEGACY_POS_ARGS``), as far as they are read."""

_PREFILL_NAMES = ("paged_kv_indptr", "paged_kv_indices", "paged_kv_last_page_len")


def _layer(  # noqa: PLR0913 - what makes a layer
    dump: Dump,
    q: Strided,
    cache: Cache,
    *,
    window: int,
    scale: float,
    v_scale: float,
    k_scale: float = 1.0,
    cap: float | None = None,
) -> Layer:
    """Return the layer. Under 16 bits the scale of keys is a part of that of the scores."""
    if cache.dtype not in QUANTISED:
        scale, k_scale = scale * k_scale, 1.0
        if v_scale != 1.0:
            raise UnsayableError(f"values of {cache.dtype} with a scale")
    dim = q.shape[2]
    return Layer(
        kind="sliding" if window >= 0 else "full",
        window_left=max(-1, window),
        num_qo_heads=q.shape[1],
        num_kv_heads=cache.heads,
        head_dim=dim,
        head_dim_v=None if cache.value_dim == dim else cache.value_dim,
        sm_scale=scale,
        logits_soft_cap=cap,
        sinks=has_sinks(dump.get("sinks")),
        k_scale=k_scale,
        v_scale=v_scale,
    )


def _layer_call(  # noqa: PLR0913 - what makes a call
    layer: Layer,
    q: Strided,
    cache: Cache,
    q_lens: tuple[int, ...],
    kv_lens: tuple[int, ...],
    tables: tuple[Table, ...],
    *,
    mode: Mode,
    hint: int,
    out: str,
    columns: int = 0,
    slack: int = 0,
    tail: TableTail = "null",
) -> LayerCall:
    if q.dtype not in _NAMES or cache.dtype not in _STORED:
        raise UnsayableError(f"queries of {q.dtype} over keys of {cache.dtype}")
    tables, pages = apart_from_null(tables, q_lens, kv_lens, layer.window_left, cache)
    packed = q.shape[0] > 1 and q.stride[0] > q.shape[1] * q.shape[2]
    query = QuerySide(
        storage="packed" if packed else "apart", slack_rows=max(0, q.shape[0] - sum(q_lens)), context_len=max(0, hint)
    )
    return LayerCall(
        name="0",
        layer=layer,
        q_lens=q_lens,
        kv_lens=kv_lens,
        memory=Memory(
            page_size=cache.page_size,
            num_pages=pages,
            tables=tables,
            columns=columns,
            table_slack=slack,
            table_tail=tail,
            layout=cache.layout,
            storage=cache.storage,
        ),
        q_dtype=q.dtype,
        kv_dtype=cache.dtype,
        out_dtype=out,
        mode=mode,
        query=query,
    )


FUNCTIONS: dict[str, Callable[[Dump], LayerCall]] = {
    "trtllm_batch_decode_with_kv_cache": decode_call,
    "xqa_batch_decode_with_kv_cache": decode_call,
    "trtllm_batch_context_with_kv_cache": context_call,
    "trtllm_fmha_v2_prefill": fmha_v2_call,
}
"""Functions that are told by one dump."""

WRAPPERS = ("BatchDecodeWithPagedKVCacheWrapper", "BatchPrefillWithPagedKVCacheWrapper")
"""Wrappers whose ``plan`` and ``run`` tell a call together; ``__init__`` has the layout."""
