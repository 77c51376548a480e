"""Where keys and values are read: pages, pools, slots (clauses 5 and 8)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from attnconf.cases.recorded import NULL_PAGE
from attnconf.clauses import Clause
from attnconf.judging.mistakes.mistake import Mistake
from attnconf.judging.mistakes.strides import table_taken_for_contiguous
from attnconf.oracle.problem import Problem

if TYPE_CHECKING:
    from attnconf.judging.mistakes.mistake import Apply
    from attnconf.judging.mistakes.scene import Scene

_TILE = 64
"""Keys of a kernel's tile. In a larger page, each tile must find its own slots."""


def in_pages(change: Callable[[Scene, list[int]], list[int] | None]) -> Apply:
    """Read keys and values in the pages that ``change`` makes of the request's own."""

    def apply(scene: Scene) -> Problem | None:
        right = scene.pages
        wrong = change(scene, right) if right else None
        if wrong is None or wrong == right:
            return None
        return _reread(scene, wrong, torch.arange(scene.spec.kv_len))

    return apply


def _reread(scene: Scene, pages: list[int], slots: torch.Tensor) -> Problem:
    """Return the question with keys and values from ``slots`` [kv_len] of ``pages``; invisible ones are left out."""
    first = scene.first_seen
    k, v = scene.keys_at(pages, slots[first:])
    return replace(scene.problem, k=k, v=v, start=scene.problem.start + first)


def _neighbour(scene: Scene, right: list[int]) -> list[int] | None:
    others = [table for index, table in enumerate(scene.layout.tables) if index != scene.request and table]
    if not others or scene.pool == "swa":
        return None
    longest = max(others, key=len)
    return [longest[min(column, len(longest) - 1)] for column in range(len(right))]


def pages_of_another(choose: Callable[[Scene], int]) -> Callable[[Scene, list[int]], list[int] | None]:
    """Return the change to the pages in the row of the table that ``choose`` names.

    What lies behind that request's own pages is unknown, and the last column stands for those that the row lacks.
    """

    def change(scene: Scene, right: list[int]) -> list[int] | None:
        other = min(choose(scene), len(scene.case.requests) - 1)
        if other == scene.request:
            return None
        row = scene.translated(scene.layout.block_tables[other].tolist())
        return [row[min(column, len(row) - 1)] for column in range(len(right))]

    return change


def _swapped(scene: Scene, right: list[int]) -> list[int] | None:
    """Swap the last two pages unless both are full: the order of full pages matters to causality only."""
    if len(right) < 2 or scene.spec.kv_len % scene.layout.page_size == 0:  # noqa: PLR2004 - two pages
        return None
    return [*right[:-2], right[-1], right[-2]]


def _twice(_scene: Scene, right: list[int]) -> list[int] | None:
    """Read the last page but one again instead of the last."""
    return [*right[:-1], right[-2]] if len(right) > 1 else None


def _last_is_null(scene: Scene, right: list[int]) -> list[int] | None:
    return [*right[:-1], NULL_PAGE] if scene.spec.kv_len % scene.layout.page_size else None


def _without_shared(scene: Scene, right: list[int]) -> list[int] | None:
    count = scene.spec.shared_pages
    seen = scene.first_seen < count * scene.layout.page_size
    return [NULL_PAGE] * count + right[count:] if seen else None


def _untranslated(scene: Scene, _right: list[int]) -> list[int] | None:
    if scene.pool == "full":
        return None
    return [page % scene.layout.num_pages["swa"] for page in scene.layout.tables[scene.request]]


def _new_untranslated(scene: Scene, right: list[int]) -> list[int] | None:
    """Translate only the pages of the prefix (sgl-project/sglang#24617)."""
    wrong = _untranslated(scene, right)
    if wrong is None:
        return None
    kept = scene.spec.prefix_len // scene.layout.page_size
    return [*right[:kept], *wrong[kept:]]


def _translated_as_slot(scene: Scene, _right: list[int]) -> list[int] | None:
    """Look a page id up in the translation of token slots: mapping[page], not mapping[page * size] // size."""
    if scene.layout.swa_page is None or scene.pool == "full":
        return None
    size, pages = scene.layout.page_size, scene.layout.swa_page
    return [pages.get(page // size, NULL_PAGE) for page in scene.layout.tables[scene.request]]


def _translated_full(scene: Scene, right: list[int]) -> list[int] | None:
    if scene.layout.swa_page is None or scene.pool == "swa":
        return None
    return [scene.layout.swa_page[page] for page in right]


def _slots(change: Callable[[torch.Tensor], torch.Tensor]) -> Apply:
    """Read other slots of the right pages: ``change`` maps slots of each page, [kv_len], to others."""

    def apply(scene: Scene) -> Problem | None:
        size, tokens = scene.layout.page_size, torch.arange(scene.spec.kv_len)
        wrong = change(tokens % size)
        if torch.equal(wrong[scene.first_seen :], tokens[scene.first_seen :] % size):
            return None
        return _reread(scene, scene.pages, tokens // size * size + wrong)

    return apply


def _strides_swapped(scene: Scene) -> Problem | None:
    """Read pages of layout NHD as HND, or the other way round."""
    size, heads = scene.layout.page_size, scene.problem.k.shape[1]
    if size == 1 or heads == 1 or not scene.pages:
        return None
    by_token = scene.case.paging.layout == "NHD"

    def misread(stored: torch.Tensor) -> torch.Tensor:
        dim = stored.shape[2]
        if by_token:
            return stored.view(-1, heads, size, dim).transpose(1, 2).reshape(-1, heads, dim)
        paged = stored.view(-1, size, heads, dim).transpose(1, 2)
        return paged.reshape(-1, heads, dim)

    k, v = scene.keys_at(scene.pages, torch.arange(len(scene.pages) * size))
    count = scene.spec.kv_len
    return replace(scene.problem, k=misread(k)[:count], v=misread(v)[:count])


CHOSEN: dict[str, Callable[[Scene], int]] = {
    "first": lambda _scene: 0,
    "next": lambda scene: scene.request + 1,
    "last": lambda scene: len(scene.case.requests) - 1,
}
"""Requests whose pages are read for those of another."""

MEMORY = (
    Mistake(
        "untranslated",
        "hybrid",
        Clause.HYBRID_POOLS,
        "page ids of the full pool index the sliding pool",
        in_pages(_untranslated),
    ),
    Mistake(
        "new untranslated",
        "hybrid",
        Clause.HYBRID_POOLS,
        "page ids of the full pool index the sliding pool where the new tokens begin",
        in_pages(_new_untranslated),
        claimed=False,
    ),
    Mistake(
        "page as slot",
        "hybrid",
        Clause.HYBRID_POOLS,
        "a page id is looked up among token slots on its way to the sliding pool",
        in_pages(_translated_as_slot),
    ),
    Mistake(
        "other pool",
        "hybrid",
        Clause.HYBRID_POOLS,
        "page ids of the sliding pool index the full pool",
        in_pages(_translated_full),
    ),
    Mistake(
        "first request's pages",
        "paging",
        Clause.PAGING,
        "the pages of the batch's first request are read",
        in_pages(pages_of_another(CHOSEN["first"])),
        claimed=False,
    ),
    Mistake(
        "next request's pages",
        "paging",
        Clause.PAGING,
        "the pages of the next request are read",
        in_pages(pages_of_another(CHOSEN["next"])),
        claimed=False,
    ),
    Mistake(
        "last request's pages",
        "paging",
        Clause.PAGING,
        "the pages of the batch's last request are read",
        in_pages(pages_of_another(CHOSEN["last"])),
        claimed=False,
    ),
    Mistake(
        "pages by query row",
        "paging",
        Clause.PAGING,
        "the index of a request's first query row is taken for that of its row in the table",
        in_pages(pages_of_another(lambda scene: scene.logical.q_starts[scene.request])),
        claimed=False,
    ),
    Mistake(
        "pages of an empty request",
        "paging",
        Clause.PAGING,
        "the pages of a request without query tokens are read for the next one, whose rows begin at the same place",
        in_pages(pages_of_another(lambda scene: scene.logical.q_starts.index(scene.logical.q_starts[scene.request]))),
        claimed=False,
    ),
    Mistake("neighbour's pages", "paging", Clause.PAGING, "another request's pages are read", in_pages(_neighbour)),
    Mistake(
        "page off by one",
        "paging",
        Clause.PAGING,
        "the next page id is read",
        in_pages(lambda _s, right: [page + 1 for page in right]),
    ),
    Mistake(
        "last page is null",
        "paging",
        Clause.PAGING,
        "the null page is read for a last page that is not full",
        in_pages(_last_is_null),
        claimed=False,
    ),
    Mistake(
        "first page",
        "paging",
        Clause.PAGING,
        "the first page is read for every page",
        in_pages(lambda _s, right: right[:1] * len(right)),
    ),
    Mistake(
        "pages swapped",
        "paging",
        Clause.PAGING,
        "the last two pages are read in each other's place",
        in_pages(_swapped),
    ),
    Mistake("page twice", "paging", Clause.PAGING, "a page is read twice, and the next one not", in_pages(_twice)),
    Mistake(
        "tile offset lost",
        "paging",
        Clause.PAGING,
        f"of a page, each tile of {_TILE} slots reads the first one's",
        _slots(lambda slots: slots % _TILE),
        claimed=False,
    ),
    Mistake(
        "layout swapped",
        "layout",
        Clause.PAGING,
        "a page is read as if its slots and heads were in the other order",
        _strides_swapped,
    ),
    Mistake(
        "table a width apart",
        "table_strides",
        Clause.LAYOUT,
        "rows of a table that is a slice of a wider one are read as if they followed each other",
        in_pages(lambda scene, _right: table_taken_for_contiguous(scene)),
    ),
    Mistake(
        "shared pages lost",
        "shared_prefix",
        Clause.PAGING,
        "pages that another request shares are not read",
        in_pages(_without_shared),
    ),
)
