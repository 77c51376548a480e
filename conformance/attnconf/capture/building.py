"""Building: the layer calls of one step as cases, those over the same memory in one."""

from __future__ import annotations

import zlib
from operator import eq
from typing import TYPE_CHECKING, Any, cast

from attnconf.capture.call import UnsayableError
from attnconf.cases.case import Case, Layer, Paging
from attnconf.cases.dtypes import EIGHT_BIT, FP8
from attnconf.cases.recorded import NULL_PAGE, Recorded
from attnconf.cases.request import MAX_VERIFY_TOKENS, Request
from attnconf.serving.step_case import mode_of, translation_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnconf.capture.call import LayerCall, Table
    from attnconf.cases.case import Mode
    from attnconf.cases.dtypes import KVDtype, OutDtype, QDtype
    from attnconf.cases.request import Span

MOST_POOL_BYTES = 2**30
"""Of one layer's keys and values: in a larger pool pages are numbered anew, in their order and next to each other."""


def cases_of(calls: Sequence[LayerCall], *, model: str) -> list[Case]:
    """Return the ``calls`` of one step as cases: one for each kind of memory and dtypes among them.

    Layers of one geometry are one. Raises ``UnsayableError`` for what no case can say.
    """
    groups: dict[object, list[LayerCall]] = {}
    for call in calls:
        groups.setdefault(_key(call), []).append(call)
    members = list(groups.values())
    hybrid = _hybrid(members)
    if hybrid is not None:
        return [hybrid_case(*hybrid, model=model)]
    return [_case(group, model=model) for group in members]


def hybrid_case(full: list[LayerCall], sliding: list[LayerCall], *, model: str) -> Case:
    """Return layers over both pools of hybrid memory as one case."""
    memory, own = full[0].memory, sliding[0].memory
    tables, swa = cast("tuple[Table, ...]", memory.tables), cast("tuple[Table, ...]", own.tables)
    found = translation_of(tables, swa)
    if found is None:
        raise UnsayableError("a page of one pool that has several of the other")
    recorded = Recorded(tables=tables, num_pages=memory.num_pages, swa_pages=found, num_swa_pages=own.num_pages)
    gone = any(NULL_PAGE in table for table in swa)
    return _case([*full, *sliding], model=model, recorded=recorded, hybrid=True, reclaimed=gone)


def _key(call: LayerCall) -> object:
    return (call.memory, call.q_lens, call.kv_lens, call.q_dtype, call.kv_dtype, call.out_dtype, call.query)


def _hybrid(groups: list[list[LayerCall]]) -> tuple[list[LayerCall], list[LayerCall]] | None:
    """Return the calls over the full and over the sliding pool, where the step has one group of each."""
    by_pool = {group[0].memory.pool: group for group in groups}
    if len(groups) != 2 or set(by_pool) != {"full", "swa"}:  # noqa: PLR2004 - one of each
        return None
    full, sliding = by_pool["full"], by_pool["swa"]
    if sliding[0].memory.full_tables != full[0].memory.tables or full[0].memory.tables is None:
        return None
    if _large(full[0]) or _large(sliding[0]):
        return None
    return (full, sliding) if translation_of(full[0].memory.tables, sliding[0].memory.tables or ()) else None


def _case(
    calls: list[LayerCall],
    *,
    model: str,
    recorded: Recorded | None = None,
    hybrid: bool = False,
    reclaimed: bool = False,
) -> Case:
    first = calls[0]
    memory = first.memory
    live = _live(first)
    q_lens, kv_lens = first.q_lens[:live], first.kv_lens[:live]
    if not any(q_lens):
        raise UnsayableError("a step without a query token")
    tables = None if memory.tables is None else memory.tables[:live]
    if recorded is None and tables is not None:
        reclaimed = any(NULL_PAGE in table for table in tables)
        recorded = _recorded(first, tables)
    elif recorded is not None:
        recorded = recorded.model_copy(update={"tables": recorded.tables[:live]})
    columns = max((-(-length // memory.page_size) for length in kv_lens), default=0)
    paging: dict[str, Any] = {
        "page_size": memory.page_size,
        "placement": "random" if recorded is None else "recorded",
        "recorded": recorded,
        "extra_columns": max(0, memory.columns - columns),
        "table_slack": memory.table_slack,
        "table_tail": memory.table_tail,
        "layout": memory.layout,
        "storage": memory.storage,
        "hybrid": hybrid,
        "reclaimed": reclaimed,
    }
    padding = len(first.q_lens) - live
    try:
        return Case(
            model=model,
            mode=_mode(first, q_lens),
            q_dtype=cast("QDtype", first.q_dtype),
            kv_dtype=cast("KVDtype", first.kv_dtype),
            out_dtype=_stated(first),
            layers=_layers(calls),
            requests=_requests(q_lens, kv_lens, tables, memory.page_size, _spans(calls)),
            paging=Paging(**paging),
            padding_rows=padding,
            padding_kv_len=min(1, first.kv_lens[live]) if padding else 0,
            query=first.query,
            seed=zlib.crc32(repr((q_lens, kv_lens)).encode()),
        )
    except ValueError as error:
        raise UnsayableError(_reason(error)) from error


def _spans(calls: Sequence[LayerCall]) -> tuple[tuple[Span, ...], ...]:
    """Return the spans that some of the layers follow, by request; empty where none does."""
    found = list(dict.fromkeys(call.spans for call in calls if any(call.spans)))
    if len(found) > 1:
        raise UnsayableError("layers of one step that follow different spans")
    return found[0] if found else ()


def _reason(error: ValueError) -> str:
    errors = getattr(error, "errors", None)
    return str(errors()[0]["msg"] if errors is not None else error).removeprefix("Value error, ")


def _live(call: LayerCall) -> int:
    """Return how many requests are none of the padding at the end of a captured decode."""
    live = len(call.q_lens)
    if call.memory.tables is None or set(call.q_lens) != {1}:
        return live
    while live > 1 and call.kv_lens[live - 1] <= 1 and not any(call.memory.tables[live - 1]):
        live -= 1
    return live


def _mode(call: LayerCall, q_lens: tuple[int, ...]) -> Mode:
    """Return the mode that the engine names, or the one of the lengths: drafts stand behind a prefix."""
    mode = call.mode or mode_of(q_lens)
    if call.mode is None and mode == "verify" and any(map(eq, q_lens, call.kv_lens)):
        mode = "extend"
    if mode == "verify" and max(q_lens) > MAX_VERIFY_TOKENS:
        raise UnsayableError(f"a verify step of more than {MAX_VERIFY_TOKENS} tokens")
    if mode == "mixed" and not (1 in q_lens and max(q_lens) > 1):
        return mode_of(q_lens)
    return mode


def _stated(call: LayerCall) -> OutDtype | None:
    return None if call.out_dtype == call.q_dtype != FP8 else cast("OutDtype", call.out_dtype)


def _layers(calls: list[LayerCall]) -> tuple[Layer, ...]:
    """Return one layer of each geometry, owners first; a redirected one whose owner was not called gets one."""
    names = {call.name: call for call in calls}
    chosen: list[Layer] = []

    def place(layer: Layer) -> int:
        if layer not in chosen:
            chosen.append(layer)
        return chosen.index(layer)

    for call in calls:
        if call.owner is None:
            place(call.layer)
            continue
        owner = names.get(call.owner)
        index = place(call.layer if owner is None else owner.layer)
        place(call.layer.model_copy(update={"kv_owner": index}))
    return tuple(chosen)


def _requests(
    q_lens: Sequence[int],
    kv_lens: Sequence[int],
    tables: Sequence[Table] | None,
    page_size: int,
    spans: Sequence[tuple[Span, ...]],
) -> tuple[Request, ...]:
    """Return the requests; where tables begin with the same pages, they share them."""
    found = []
    for index, (new, length) in enumerate(zip(q_lens, kv_lens, strict=True)):
        prefix = length - new
        best, owner = 0, None
        for other in range(index if tables is not None else 0):
            most = min(prefix, kv_lens[other]) // page_size
            alike = _alike(cast("Sequence[Table]", tables)[index][:most], cast("Sequence[Table]", tables)[other])
            if alike > best:
                best, owner = alike, other
        own = spans[index] if spans else ()
        found.append(Request(prefix_len=prefix, new_tokens=new, shares_with=owner, shared_pages=best, spans=own))
    return tuple(found)


def _alike(one: Table, other: Table) -> int:
    """Return how many pages both begin with; null pages alone share nothing."""
    count = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        count += 1
    return count if any(one[:count]) else 0


def _large(call: LayerCall) -> bool:
    memory, layer = call.memory, call.layer
    width = 1 if call.kv_dtype in EIGHT_BIT else 4 if call.kv_dtype == "float32" else 2
    return (
        memory.num_pages * memory.page_size * layer.num_kv_heads * (layer.head_dim + layer.value_dim) * width
        > MOST_POOL_BYTES
    )


def _recorded(call: LayerCall, tables: tuple[Table, ...]) -> Recorded:
    """Return the tables as they are, or in a pool that is too large with their pages numbered anew."""
    if not _large(call):
        return Recorded(tables=tables, num_pages=call.memory.num_pages)
    pages = sorted({page for table in tables for page in table} - {NULL_PAGE})
    names = {NULL_PAGE: NULL_PAGE} | {page: number for number, page in enumerate(pages, 1)}
    return Recorded(tables=tuple(tuple(names[page] for page in table) for table in tables), num_pages=len(pages) + 1)
