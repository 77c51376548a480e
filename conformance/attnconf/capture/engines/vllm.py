"""vLLM 0.33.0: a layer's backend is its ``impl``, whose ``forward`` is called for every step outside of full graphs.

A full CUDA graph replays without Python: a server that shall be captured runs with ``--enforce-eager``, or with
piecewise graphs alone. Cross, encoder and latent attention are none of ``Attention``, and are not seen.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from attnconf.capture.call import LayerCall, Memory, UnsayableError
from attnconf.capture.reading import cache_form, differences, dtype_name, host, query_side, table_rows
from attnconf.cases.case import Layer

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from attnconf.capture.gathering import Gathering
    from attnconf.cases.request import Span

_NEEDED = ("query_start_loc", "seq_lens", "block_table", "num_actual_tokens", "max_seq_len")


def install(gathering: Gathering) -> Callable[[], None]:
    """Let ``gathering`` see the calls of layers made from now on; return what takes that away.

    Raises ``ImportError`` without vLLM.
    """
    attention = importlib.import_module("vllm.model_executor.layers.attention").Attention
    right = attention.__init__
    watched: list[Any] = []

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        right(self, *args, **kwargs)
        self.impl.forward = _seen(self, self.impl.forward, gathering)
        watched.append(self.impl)

    attention.__init__ = init

    def undo() -> None:
        attention.__init__ = right
        for impl in watched:
            vars(impl).pop("forward", None)

    return undo


def _seen(layer: Any, right: Callable[..., Any], gathering: Gathering) -> Callable[..., Any]:
    def forward(
        owner: Any, query: Any, key: Any, value: Any, kv_cache: Any, metadata: Any, *args: Any, **more: Any
    ) -> Any:
        if metadata is not None:  # a profiling run has none
            batch = getattr(metadata, "seq_lens", metadata)
            gathering.see(_step(batch), layer.layer_name, lambda: read_call(layer, query, kv_cache, metadata), batch)
        return right(owner, query, key, value, kv_cache, metadata, *args, **more)

    return forward


def _step(batch: Any) -> int:
    """Return what the groups of layers of one step have in common: the address of their lengths."""
    return int(batch.data_ptr()) if hasattr(batch, "data_ptr") else id(batch)


def read_call(layer: Any, query: torch.Tensor, kv_cache: torch.Tensor, metadata: Any) -> LayerCall | None:
    """Return what one call of ``layer`` asks; None in a step without requests.

    Raises ``UnsayableError`` for what no case can say.
    """
    impl = layer.impl
    _refuse(impl, metadata)
    q_lens, kv_lens = differences(host(metadata.query_start_loc)), host(metadata.seq_lens)
    live = len(q_lens)
    while live and not q_lens[live - 1]:  # padding of a captured batch: it has no row
        live -= 1
    if not live:
        return None
    q_lens, kv_lens = q_lens[:live], kv_lens[:live]
    k, v = _views(kv_cache, impl.head_size)
    table = metadata.block_table[:live]
    tables, tail = table_rows(table, kv_lens, k.shape[1])
    layout, storage = cache_form(k, v)
    kv_dtype, q_dtype = dtype_name(k.dtype, "keys"), dtype_name(query.dtype, "a query")
    window = impl.sliding_window[0]
    rows, spans = sum(q_lens), _spans(layer, metadata, live, windowed=window >= 0)
    return LayerCall(
        name=layer.layer_name,
        owner=impl.kv_sharing_target_layer_name,
        layer=Layer(
            kind="sliding" if window >= 0 else "full",
            window_left=window if window >= 0 else -1,
            num_qo_heads=impl.num_heads,
            num_kv_heads=impl.num_kv_heads,
            head_dim=impl.head_size,
            sm_scale=impl.scale,
            logits_soft_cap=impl.logits_soft_cap or None,
            sinks=impl.sinks is not None,
            spans=any(spans),
            **_scales(layer, kv_dtype),
        ),
        q_lens=q_lens,
        kv_lens=kv_lens,
        memory=Memory(
            page_size=k.shape[1],
            num_pages=k.shape[0],
            tables=tables,
            columns=table.shape[1],
            table_slack=table.stride(0) - table.shape[1] if live > 1 else 0,
            table_tail=tail,
            layout=layout,
            storage=storage,
        ),
        q_dtype=q_dtype,
        kv_dtype=kv_dtype,
        out_dtype=q_dtype,
        query=query_side(query, rows, int(metadata.max_seq_len)),
        spans=spans,
    )


def _refuse(impl: Any, metadata: Any) -> None:
    missing = [name for name in _NEEDED if not hasattr(metadata, name)]
    if missing:
        raise UnsayableError(f"{type(metadata).__name__} without {', '.join(missing)}")
    if str(getattr(impl, "attn_type", "decoder")).rpartition(".")[2].lower() != "decoder":
        raise UnsayableError("attention that is not a decoder's own")
    if getattr(metadata, "causal", True) is not True:
        raise UnsayableError("a step that is not causal")
    for name in ("alibi_slopes", "use_alibi_sqrt", "chunk_lookback"):
        found = getattr(impl, name, None)
        if found is not None and found is not False and not (name == "chunk_lookback" and found in {0, -1}):
            raise UnsayableError(f"a layer with {name}")


def _spans(layer: Any, metadata: Any, live: int, *, windowed: bool) -> tuple[tuple[Span, ...], ...]:
    """Return the images of each of ``live`` requests: vLLM has the first and the last token of each."""
    ranges = getattr(metadata, "mm_prefix_range", None) or {}
    found = tuple(tuple((first, last + 1) for first, last in ranges.get(index, ())) for index in range(live))
    if windowed and any(found) and not getattr(layer, "mm_prefix_clamp_sliding_window", False):
        raise UnsayableError("images that no window cuts, in a layer with a window")
    return found if any(found) else ()


def _views(cache: torch.Tensor, head_dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return keys and values, [pages, page_size, num_kv_heads, head_dim] each, of vLLM's joint cache."""
    if cache.dim() != 4 or cache.shape[-1] != 2 * head_dim:  # noqa: PLR2004 - the four of above
        raise UnsayableError(f"a cache of shape {tuple(cache.shape[1:])}")
    joint = cache.transpose(1, 2)
    return joint[..., :head_dim], joint[..., head_dim:]


def _scales(layer: Any, dtype: str) -> dict[str, Any]:
    if not dtype.startswith("float8"):
        return {}
    return {"k_scale": layer._k_scale_float, "v_scale": layer._v_scale_float}
