"""sglang 0.5.23: every layer's call passes ``RadixAttention.forward``, with the step in its ``ForwardBatch``.

A CUDA graph replays without Python: a server that shall be captured runs with ``--disable-cuda-graph``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from attnconf.capture.call import LayerCall, Memory, UnsayableError
from attnconf.capture.reading import cache_form, dtype_name, host, query_side
from attnconf.cases.case import Layer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

    from attnconf.capture.call import Table
    from attnconf.capture.gathering import Gathering
    from attnconf.cases.case import Mode
    from attnconf.cases.request import Span

_MODES: dict[str, Mode] = {"DECODE": "decode", "EXTEND": "extend", "MIXED": "mixed", "TARGET_VERIFY": "verify"}
_CALL = frozenset({"save_kv_cache", "sinks"})
"""What a layer's call may have beside its tensors; anything else asks for what no case says."""


def install(gathering: Gathering) -> Callable[[], None]:
    """Let ``gathering`` see the layers' calls; return what takes that away. Raises ``ImportError`` without sglang."""
    radix = importlib.import_module("sglang.srt.layers.radix_attention").RadixAttention
    backend_now = importlib.import_module("sglang.srt.model_executor.forward_context").get_attn_backend
    right = radix.forward

    def forward(self: Any, q: Any, k: Any, v: Any, forward_batch: Any, *args: Any, **kwargs: Any) -> Any:
        def read() -> LayerCall | None:
            return read_call(self, q, k, forward_batch, backend_now(), kwargs)

        gathering.see(id(forward_batch), _name(self, k), read, forward_batch)
        return right(self, q, k, v, forward_batch, *args, **kwargs)

    radix.forward = forward

    def undo() -> None:
        radix.forward = right

    return undo


def read_call(layer: Any, q: torch.Tensor, k: Any, step: Any, backend: Any, kwargs: dict[str, Any]) -> LayerCall | None:
    """Return what one call of ``layer`` asks; None in a step without requests.

    Raises ``UnsayableError`` for what no case can say.
    """
    name = step.forward_mode.name
    if name == "IDLE":
        return None
    _refuse(layer, kwargs)
    if name not in _MODES:
        raise UnsayableError(f"forward mode {name}")
    mode = _MODES[name]
    q_lens, kv_lens = _lengths(step, mode)
    rows, spans = sum(q_lens), _spans(step, backend, mode, kv_lens)
    heads = layer.tp_q_head_num
    queries = q if q.dim() == 3 else q.view(-1, heads, layer.head_dim)  # noqa: PLR2004 - rows, heads, head_dim
    memory, pool_dtype = _memory(layer, step, backend, kv_lens)
    q_dtype = dtype_name(queries.dtype, "a query")
    hinted = type(backend).__name__.startswith("TRTLLM")
    window = layer.sliding_window_size
    return LayerCall(
        name=_name(layer, k),
        owner=str(layer.layer_id) if k is None else None,
        layer=Layer(
            kind="sliding" if window >= 0 else "full",
            window_left=window if window >= 0 else -1,
            num_qo_heads=heads,
            num_kv_heads=layer.tp_k_head_num,
            head_dim=layer.head_dim,
            head_dim_v=None if layer.v_head_dim == layer.head_dim else layer.v_head_dim,
            sm_scale=layer.scaling,
            logits_soft_cap=layer.logit_cap or None,
            sinks=kwargs.get("sinks") is not None,
            spans=any(spans),
            **_scales(layer, pool_dtype),
        ),
        q_lens=q_lens,
        kv_lens=kv_lens,
        memory=memory,
        q_dtype=q_dtype,
        kv_dtype=pool_dtype,
        out_dtype=q_dtype,
        mode=mode,
        query=query_side(queries, rows, backend.max_context_len if hinted else 0),
        spans=spans,
    )


def _name(layer: Any, k: Any) -> str:
    """Return the layer's name; those that read another's cache have its id, and are told apart by what they ask."""
    if k is not None:
        return str(layer.layer_id)
    return f"{layer.layer_id} read by {layer.tp_q_head_num} heads, {layer.sliding_window_size}, {layer.scaling}"


def _refuse(layer: Any, kwargs: dict[str, Any]) -> None:
    if layer.is_cross_attention or layer.attn_type.name != "DECODER":
        raise UnsayableError("attention that is not a decoder's own")
    if layer.use_irope:
        raise UnsayableError("a layer with irope")
    other = sorted(name for name, value in kwargs.items() if name not in _CALL and value is not None)
    if other:
        raise UnsayableError(f"a call with {', '.join(other)}")


def _lengths(step: Any, mode: Mode) -> tuple[tuple[int, ...], tuple[int, ...]]:
    lengths = host(step.seq_lens)
    if mode == "decode":
        return (1,) * len(lengths), lengths
    if mode == "verify":
        if getattr(step.spec_info, "topk", 1) != 1:
            raise UnsayableError("a tree of drafts")
        drafts = int(step.spec_info.draft_token_num)
        return (drafts,) * len(lengths), tuple(length + drafts for length in lengths)
    return host(step.extend_seq_lens), lengths


def _spans(step: Any, backend: Any, mode: Mode, kv_lens: Sequence[int]) -> tuple[tuple[Span, ...], ...]:
    """Return the images of each request where the model gave the backend a mask: sglang has the first and last token.

    A verify step has a mask of its own, which is that of its drafts.
    """
    if mode == "verify" or getattr(getattr(backend, "forward_metadata", None), "custom_mask", None) is None:
        return ()
    found = []
    for inputs, length in zip(step.mm_inputs or (None,) * len(kv_lens), kv_lens, strict=True):
        items = [] if inputs is None else [item for item in inputs.mm_items if item.is_image()]
        ends = sorted((first, last + 1) for item in items for first, last in item.offsets or ())
        found.append(tuple((begin, end) for begin, end in ends if begin < length))
    if not any(found):
        raise UnsayableError("a mask that is none of images")
    return tuple(found)


def _memory(layer: Any, step: Any, backend: Any, kv_lens: Sequence[int]) -> tuple[Memory, str]:
    """Return where the keys lie, and their dtype."""
    pool, size = backend.token_to_kv_pool, backend.page_size
    rows = backend.req_to_token_pool.req_to_token[step.req_pool_indices]
    slots = [rows[index, :length:size].long() for index, length in enumerate(kv_lens)]
    tables = tuple(_pages(one, size) for one in slots)
    k, v = pool.get_kv_buffer(layer.layer_id)
    pages = k.shape[0] // size
    views = (one[: pages * size].view(pages, size, *one.shape[1:]) for one in (k, v))
    layout, storage = cache_form(*views)
    form = {"page_size": size, "num_pages": pages, "layout": layout, "storage": storage}
    mapping = getattr(pool, "layers_mapping", None)
    if mapping is None or not mapping[layer.layer_id][1]:
        return Memory(tables=tables, **form), dtype_name(k.dtype, "keys")
    translated = tuple(_pages(pool.translate_loc_from_full_to_swa(one), size) for one in slots)
    return Memory(tables=translated, pool="swa", full_tables=tables, **form), dtype_name(k.dtype, "keys")


def _pages(slots: torch.Tensor, size: int) -> Table:
    return host(slots // size)


def _scales(layer: Any, dtype: str) -> dict[str, Any]:
    if not dtype.startswith("float8"):
        return {}
    return {"k_scale": layer.k_scale_float or 1.0, "v_scale": layer.v_scale_float or 1.0}
