"""transformers' continuous batching (5.24): attention functions get the step as keyword arguments.

Full layers read through block tables, which are captured. Sliding ones keep a ring, whose slots roll: no table of a
case can say it, so their calls have lengths, window and the rest, and their tokens lie as in drawn cases.
"""

from __future__ import annotations

import importlib
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from attnconf.capture.call import LayerCall, Memory, UnsayableError
from attnconf.capture.reading import differences, dtype_name, host, pages_of_slots
from attnconf.cases.case import Layer, QuerySide

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from attnconf.capture.call import Table
    from attnconf.capture.gathering import Gathering

_CACHE = "transformers.generation.continuous_batching.cache"


def install(gathering: Gathering) -> Callable[[], None]:
    """Let ``gathering`` see the calls of attention functions; return what takes that away.

    Raises ``ImportError`` without transformers.
    """
    interface = importlib.import_module("transformers.modeling_utils").AttentionInterface
    paged = importlib.import_module(_CACHE).PagedAttentionCache
    right, update = interface.get_interface, paged.update
    caches: list[Any] = [None]

    def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
        caches[0] = self
        return update(self, *args, **kwargs)

    def get_interface(self: Any, *args: Any, **kwargs: Any) -> Any:
        function = right(self, *args, **kwargs)

        def seen(module: Any, query: Any, *others: Any, **step: Any) -> Any:
            if "cu_seq_lens_q" in step and caches[0] is not None:
                gathering.see(
                    step["cu_seq_lens_q"].data_ptr(),
                    str(module.layer_idx),
                    lambda: read_call(module, query, caches[0], step),
                    step["cu_seq_lens_q"],
                )
            return function(module, query, *others, **step)

        return seen

    interface.get_interface = get_interface
    paged.update = noted

    def undo() -> None:
        interface.get_interface, paged.update = right, update

    return undo


def read_call(module: Any, query: torch.Tensor, cache: Any, step: dict[str, Any]) -> LayerCall | None:
    """Return what one call of the layer ``module`` asks; ``query`` is [1, num_qo_heads, tokens, head_dim].

    Raises ``UnsayableError`` for what no case can say.
    """
    owner = _owner(module, cache)
    allocator = cache.layer_to_allocator[owner]
    kind = allocator.layer_type
    if kind not in {"full_attention", "sliding_attention"}:
        raise UnsayableError(f"a layer of {kind}")
    q_lens = differences(host(step["cu_seq_lens_q"]))
    starts = step["cu_seq_lens_k"]
    starts = host(starts[kind] if isinstance(starts, dict) else starts)
    kv_lens = differences(starts)
    window = int(step.get("sliding_window") or getattr(allocator, "sliding_window", 0) or 0)
    q_dtype = dtype_name(query.dtype, "a query")
    return LayerCall(
        name=str(module.layer_idx),
        owner=None if owner == module.layer_idx else str(owner),
        layer=Layer(
            kind="sliding" if kind == "sliding_attention" else "full",
            window_left=window - 1 if kind == "sliding_attention" else -1,
            num_qo_heads=query.shape[1],
            num_kv_heads=allocator.num_key_value_heads,
            head_dim=query.shape[3],
            sm_scale=float(step["scaling"]),
            logits_soft_cap=step.get("softcap") or None,
            sinks=step.get("s_aux") is not None or getattr(module, "sinks", None) is not None,
        ),
        q_lens=q_lens,
        kv_lens=kv_lens,
        memory=_memory(allocator, step, q_lens, starts, ring=kind == "sliding_attention"),
        q_dtype=q_dtype,
        kv_dtype=dtype_name(allocator.cache_dtype, "keys"),
        out_dtype=q_dtype,
        query=QuerySide(),
    )


def _owner(module: Any, cache: Any) -> int:
    """Return the layer whose keys ``module`` reads: the last one before it of its type that stores any."""
    index: int = module.layer_idx
    if not getattr(module, "is_kv_shared_layer", False):
        return index
    wanted = module.layer_type
    stored = [one for one, kept in cache.layer_to_allocator.items() if one < index and kept.layer_type == wanted]
    if not stored:
        raise UnsayableError("a shared layer without an owner")
    return int(max(stored))


def _memory(
    allocator: Any,
    step: dict[str, Any],
    q_lens: tuple[int, ...],
    starts: tuple[int, ...],
    *,
    ring: bool,
) -> Memory:
    size = int(allocator.tokens_per_page)
    if ring:
        return Memory(page_size=size, num_pages=0, tables=None)
    tables = _tables(allocator, step, q_lens, starts)
    # its blocks begin at 0, which a case keeps for the null page: each page is one further
    shifted = tuple(tuple(page + 1 for page in table) for table in tables)
    most = max(page for table in shifted for page in table) + 1
    return Memory(page_size=size, num_pages=most, tables=shifted, storage="interleaved")


def _tables(
    allocator: Any,
    step: dict[str, Any],
    q_lens: tuple[int, ...],
    starts: tuple[int, ...],
) -> tuple[Table, ...]:
    """Return the blocks of each request: of its block table, or of the slots read or, for want, written."""
    table = step.get("block_table")
    size = int(allocator.tokens_per_page)
    if table is not None:
        rows = (table[allocator.index] if table.dim() == 3 else table).tolist()  # noqa: PLR2004 - groups, rows, columns
        lengths = [stop - start for start, stop in pairwise(starts)]
        return tuple(tuple(row[: -(-length // size)]) for row, length in zip(rows, lengths, strict=False))
    read = step["read_index"][allocator.index]
    if read.numel():
        slots, places = host(read), starts
    else:
        slots = host(step["write_index"][allocator.index])
        places = tuple(accumulate(q_lens, initial=0))
    stride = int(allocator.block_physical_stride)
    return tuple(pages_of_slots(slots[start:stop], stride) for start, stop in pairwise(places))
