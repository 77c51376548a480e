"""Pages: which pages the requests of a case own, which are gone, and how many each pool has. None has an id here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnconf.cases.case import Case, Placement
    from attnconf.cases.inputs.batch import Pool

PAGE_PADDING = 64
"""Elements after each page in storage ``padded``; they keep every row aligned to 16 bytes in all dtypes."""

_HIGH_SLOTS = 4096
"""Free slots below the pages of placement ``high``: enough that a wrapped or truncated page id misses."""

_FAR_PAGES = 66_000
"""Free pages below the pages of placement ``far``: the ids above do not fit into 16 bits."""


def pages_needed(tokens: int, page_size: int) -> int:
    """Return how many pages hold ``tokens`` tokens."""
    return -(-tokens // page_size)


def has_table_tail(case: Case) -> bool:
    """Return whether some row of the block table has more columns than its request has pages."""
    lengths = [pages_needed(request.kv_len, case.paging.page_size) for request in case.requests]
    return case.paging.extra_columns > 0 or min(lengths) < max(lengths)


def pool_of(case: Case, layer: int) -> Pool:
    """Return the pool that holds the keys and values of ``layer``."""
    return "swa" if case.paging.hybrid and case.layers[layer].kind == "sliding" else "full"


def num_pages(case: Case) -> dict[Pool, int]:
    """Return the pages of each pool of ``case``, with its null page."""
    recorded = case.recorded_tables
    if recorded is not None:
        swa: dict[Pool, int] = {"swa": recorded.num_swa_pages} if case.paging.hybrid else {}
        return {"full": recorded.num_pages, **swa}
    owned = owned_pages(case)
    distinct = {page for pages in owned for page in pages}
    found: dict[Pool, int] = {"full": pool_size(len(distinct), case)}
    if case.paging.hybrid:
        found["swa"] = pool_size(len(distinct - reclaimed_pages(case, owned)), case)
    return found


def pool_size(count: int, case: Case, *, relabel: bool = False) -> int:
    """Return the pages of a pool in which ``count`` are owned, with its null page."""
    placement = placement_of(case, relabel=relabel)
    usable = count + case.paging.slack_pages + (count + 1 if relabel else 0)
    if placement == "fragmented":
        usable += count
    elif placement == "high":
        usable += max(2, _HIGH_SLOTS // case.paging.page_size)
    elif placement == "far":
        usable += _FAR_PAGES
    return usable + 1


def placement_of(case: Case, *, relabel: bool) -> Placement:
    """Return where the ids of pages lie: at random under other labels, unless they must be large."""
    own = case.paging.placement
    return "random" if relabel and own not in {"high", "far"} else own


def owned_pages(case: Case) -> list[list[int]]:
    """Return each request's pages, numbered from 0; requests that share a page have its number in common."""
    owned: list[list[int]] = []
    fresh = 0
    for request in case.requests:
        count = pages_needed(request.kv_len, case.paging.page_size)
        shared = owned[request.shares_with][: request.shared_pages] if request.shares_with is not None else []
        new = list(range(fresh, fresh + count - len(shared)))
        fresh += len(new)
        owned.append([*shared, *new])
    return owned


def reclaims(case: Case) -> bool:
    """Return whether a page of ``case`` is gone: wholly behind every window, and not only allowed to be."""
    if case.recorded_tables is not None:
        return case.paging.reclaimed  # its tables say which
    return bool(reclaimed_pages(case, owned_pages(case)))


def reclaimed_pages(case: Case, owned: list[list[int]]) -> set[int]:
    """Return the pages that lie wholly behind the windows of all requests that have them."""
    if not case.paging.reclaimed:
        return set()
    window = max((layer.window_left for layer in case.layers if layer.kind == "sliding"), default=-1)
    if window < 0:
        return set()
    gone: set[int] = set()
    needed: set[int] = set()
    for request, pages in zip(case.requests, owned, strict=True):
        first_visible = max(0, request.prefix_len - window)
        dead = first_visible // case.paging.page_size
        gone.update(pages[:dead])
        needed.update(pages[dead:])
    return gone - needed
