"""Admission: how large a case may be in counts and in time; asked before anything is placed or allocated for it.

Memory is the other limit, see ``memory.py``. Counts end where no serving engine goes. The time is that of judging one
right answer with every check, in a process with one thread, measured on a CPU of 2024 and rounded up:

    0.05 s a layer + 0.01 s a layer and request + 0.8 us a score + 0.4 us an element of K

where scores are query heads x new tokens x keys, and elements tokens x KV heads x head_dim (of values, where these are
wider), summed over requests and layers. On a GPU the two last ones take a thousandth, and the first two a tenth: of a
prefill of 8,192 tokens 0.4 s were measured where this says 1.8 s, and of a decode of 512 requests 0.6 s where it says
2.7 s (H200, ``fixtures/evidence/speed``). What the backend takes is not in it: that is watched by
``--attnconf-case-seconds``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.cases.inputs.pages import pages_needed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attnconf.cases.case import Case

MOST_SECONDS = 600.0
"""The estimated time up to which a case is run."""

MOST_REQUESTS = 4096
MOST_LAYERS = 1024
MOST_ROWS = 2**18
"""Query rows, those of padding and slack included."""

MOST_HEADS = 4096
MOST_PAGES = 2**22
"""Pages that requests own, or that are free on purpose."""

MOST_ENTRIES = 2**24
"""Entries of the block table: rows x columns."""

_A_LAYER, _A_REQUEST, _A_SCORE, _AN_ELEMENT = 5e-2, 1e-2, 8e-7, 4e-7
_SIZES_ON_A_GPU, _STEPS_ON_A_GPU = 1e-3, 0.1


def why_not_admitted(case: Case, *, accelerated: bool) -> str | None:
    """Return why ``case`` is too large to be judged, or None. The same words for all cases: reasons are counted."""
    for what, count, most in _counts(case):
        if count > most:
            return f"has more than {most} {what}"
    if seconds(case, accelerated=accelerated) > MOST_SECONDS:
        return f"would take more than {MOST_SECONDS:.0f} s to judge"
    return None


def seconds(case: Case, *, accelerated: bool) -> float:
    """Return about how long judging one right answer to ``case`` takes, in seconds, without the backend."""
    scores, tokens = sum(one.new_tokens * one.kv_len for one in case.requests), sum(r.kv_len for r in case.requests)
    sizes = sum(
        _A_SCORE * layer.num_qo_heads * scores
        + _AN_ELEMENT * layer.num_kv_heads * max(layer.head_dim, layer.value_dim) * tokens
        for layer in case.layers
    )
    layers = len(case.layers)
    steps = layers * (_A_LAYER + _A_REQUEST * len(case.requests))
    return _STEPS_ON_A_GPU * steps + _SIZES_ON_A_GPU * sizes if accelerated else steps + sizes


def _counts(case: Case) -> Iterator[tuple[str, int, int]]:
    """Yield what is counted, in words, how many ``case`` has and may have."""
    paging, rows = case.paging, len(case.requests) + case.padding_rows
    yield "requests", len(case.requests), MOST_REQUESTS
    yield "layers", len(case.layers), MOST_LAYERS
    queries = (
        sum(one.new_tokens for one in case.requests) + case.padding_rows * case.padding_tokens + case.query.slack_rows
    )
    yield "query rows", queries, MOST_ROWS
    yield "heads in a layer", max(layer.num_qo_heads for layer in case.layers), MOST_HEADS
    pages = sum(pages_needed(one.kv_len, paging.page_size) for one in case.requests)
    yield "pages", pages + paging.slack_pages, MOST_PAGES
    columns = pages_needed(case.max_kv_len, paging.page_size) + paging.extra_columns + paging.table_slack
    yield "entries in its block table", rows * columns, MOST_ENTRIES
