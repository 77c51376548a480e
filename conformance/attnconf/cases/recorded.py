"""Recorded tables: where the tokens of a batch lay in an engine's memory, instead of a placement that is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from attnconf.values import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

PageId = Annotated[int, Field(ge=0, lt=2**31, strict=True)]
NULL_PAGE = 0
"""The page without an owner, at which reclaimed pages and padding rows point, as in sglang and vLLM."""


@dataclass(frozen=True)
class Tenant:
    """What one request needs of a table: ``pages`` of them, the first ``gone`` of which no window reaches.

    It has the first ``shared_pages`` in common with the earlier request ``shares_with``.
    """

    pages: int
    gone: int
    shares_with: int | None
    shared_pages: int


class Recorded(Value):
    """The block tables of a batch as a memory manager had them.

    ``tables[r]`` are the page ids of request r in the full pool, exactly as many as its tokens need; 0 stands for a
    page that was given back behind every window. ``swa_pages`` are pairs of a page of the full pool and its page in the
    sliding pool, of hybrid memory alone. ``num_pages`` and ``num_swa_pages`` are the pools' sizes in pages, with the
    null page.
    """

    tables: tuple[tuple[PageId, ...], ...]
    num_pages: Annotated[int, Field(ge=1, lt=2**31, strict=True)]
    swa_pages: tuple[tuple[PageId, PageId], ...] = ()
    num_swa_pages: PageId = 0

    def check(self, tenants: Sequence[Tenant], *, hybrid: bool, reclaimed: bool) -> None:
        """Raise ``ValueError`` unless the tables hold ``tenants``, each token in a place of its own.

        Two requests may have a page in common only where they share its contents, directly or through others.
        """
        if len(self.tables) != len(tenants):
            raise ValueError(f"paging.recorded has {len(self.tables)} tables for {len(tenants)} requests")
        if hybrid != (self.num_swa_pages > 0):
            raise ValueError("paging.recorded has a sliding pool if paging.hybrid says so, and only then")
        owners: dict[int, int] = {}
        origins: list[list[int]] = []
        for index, (tenant, table) in enumerate(zip(tenants, self.tables, strict=True)):
            if len(table) != tenant.pages:
                said = f"its recorded table has {len(table)} pages, and its tokens need {tenant.pages}"
                raise ValueError(f"request {index}: {said}")
            shared = [] if tenant.shares_with is None else origins[tenant.shares_with][: tenant.shared_pages]
            origins.append([*shared, *[index] * (tenant.pages - len(shared))])
            self._check_pages(index, owners, origins, gone=tenant.gone if reclaimed and not hybrid else 0)
        self._check_translation([tenant.gone if reclaimed else 0 for tenant in tenants], hybrid=hybrid)

    def _check_pages(self, index: int, owners: dict[int, int], origins: list[list[int]], *, gone: int) -> None:
        """Check one table; ``origins[r][i]`` is the request whose contents page i of request r has."""
        for place, page in enumerate(self.tables[index]):
            if page >= self.num_pages:
                raise ValueError(f"request {index}: page {page} is outside the pool of {self.num_pages}")
            if page == NULL_PAGE:
                if place >= gone:
                    raise ValueError(f"request {index}: its recorded page {place} is the null page, and is still read")
                continue
            owner = owners.setdefault(page, index)
            theirs = self.tables[owner].index(page)
            if (owner == index and theirs != place) or (
                owner != index and (theirs != place or origins[owner][place] != origins[index][place])
            ):
                raise ValueError(f"request {index}: page {page} is also read by request {owner}, and not shared")

    def _check_translation(self, gone: Sequence[int], *, hybrid: bool) -> None:
        if not hybrid:
            if self.swa_pages:
                raise ValueError("paging.recorded.swa_pages belong to hybrid memory")
            return
        found = dict(self.swa_pages)
        kept = [page for page in found.values() if page != NULL_PAGE]
        if len(found) != len(self.swa_pages) or len(set(kept)) != len(kept):
            raise ValueError("paging.recorded.swa_pages has a page twice")
        if any(page >= self.num_swa_pages for page in kept):
            raise ValueError(f"paging.recorded.swa_pages has a page outside the sliding pool of {self.num_swa_pages}")
        for index, table in enumerate(self.tables):
            for place, page in enumerate(table):
                if place >= gone[index] and found.get(page, NULL_PAGE) == NULL_PAGE:
                    raise ValueError(
                        f"request {index}: page {page} is not in the sliding pool, and is still read there"
                    )
