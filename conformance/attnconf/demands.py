"""What a case demands beyond the required clauses, held against what a backend promised."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.backends.protocol import Promises, Unsupported
from attnconf.layout import pages_needed

if TYPE_CHECKING:
    from attnconf.case import Case


def unmet_promise(case: Case, layer: int, promises: Promises) -> Unsupported | None:  # noqa: PLR0911 - a list of demands
    """Return why ``case`` cannot be asked of a backend with ``promises``, or None."""
    for part, kind, borne in (
        ("keys", case.poison.k, promises.dead_k),
        ("values", case.poison.v, promises.dead_v),
    ):
        if kind not in borne:
            return Unsupported(f"does not promise to bear {kind} {part} in dead slots")
    if 0 <= case.layers[layer].window_left < promises.least_window:
        return Unsupported(f"takes a window_left from {promises.least_window} on, not {case.layers[layer].window_left}")
    lengths = [pages_needed(request.kv_len, case.paging.page_size) for request in case.requests]
    has_tail = case.paging.extra_columns > 0 or min(lengths) < max(lengths)
    if has_tail and case.paging.table_tail not in promises.table_tail:
        return Unsupported(f"does not promise to bear {case.paging.table_tail} page ids behind a sequence's end")
    reclaimed = case.paging.reclaimed and case.layers[layer].kind == "sliding"
    if reclaimed and case.poison.v not in promises.reclaimed_v:
        contents = f" with {case.poison.v} values" if promises.reclaimed_v else ""
        return Unsupported(f"does not promise to bear reclaimed pages{contents} behind the window")
    if case.padding_rows and case.padding_kv_len == 0 and not promises.empty_kv:
        return Unsupported("does not promise zeros for a row with kv_len 0")
    if any(request.new_tokens == 0 for request in case.requests) and not promises.empty_q:
        return Unsupported("does not promise to bear a request without query tokens")
    if any(request.kv_len == 0 for request in case.requests) and not promises.empty_kv:
        return Unsupported("does not promise to bear a request without keys")
    return None
