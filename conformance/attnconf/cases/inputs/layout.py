"""Layout: the page ids of each token of a case. It labels what ``pages.py`` counts; it has no tensor data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from attnconf.cases.inputs.pages import owned_pages, pages_needed, placement_of, pool_size, reclaimed_pages
from attnconf.cases.recorded import NULL_PAGE

if TYPE_CHECKING:
    from attnconf.cases.case import Case
    from attnconf.cases.inputs.batch import Pool
    from attnconf.cases.recorded import Recorded

_CPU = torch.device("cpu")

_SALT_STRIDE = 1_000_003
"""Spreads seeds, so that salts of neighbouring seeds give different labellings; a prime."""

_FAR_OUTSIDE = 12_345
"""Added to the size of the pool for an id outside it that is not close to its end."""


@dataclass(frozen=True)
class Layout:
    """The page tables of a case.

    ``tables[r]`` are request r's page ids in the full pool, as many as its ``kv_lens[r]`` tokens need. ``swa_page``
    maps a page of the full pool to one of the swa pool (to the null page if reclaimed); it is None without a hybrid
    pool. ``block_tables`` [rows, columns] int32 is the batch's table, with padding rows and filled unused columns.
    """

    page_size: int
    tables: tuple[tuple[int, ...], ...]
    swa_page: dict[int, int] | None
    kv_lens: tuple[int, ...]
    block_tables: torch.Tensor
    num_pages: dict[Pool, int]
    _tokens: dict[Pool, torch.Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)
    _slots: dict[tuple[Pool, torch.device], torch.Tensor] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    _places: dict[tuple[Pool, torch.device], tuple[torch.Tensor | None, tuple[torch.Tensor, ...]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def page(self, pool: Pool, request: int, token: int) -> int:
        """Return the page id of ``token`` of ``request`` in ``pool``; the null page means that it is not stored."""
        page = self.tables[request][token // self.page_size]
        return page if pool == "full" or self.swa_page is None else self.swa_page[page]

    def pages(self, pool: Pool, request: int) -> list[int]:
        """Return the ids of the pages of ``request`` in ``pool``, in order."""
        table = self.tables[request]
        return list(table) if pool == "full" or self.swa_page is None else [self.swa_page[page] for page in table]

    def slots(self, pool: Pool, device: torch.device = _CPU) -> torch.Tensor:
        """Return the slot in ``pool`` of each token of the batch, page id x page size + offset, [all tokens] int64.

        A token that is not stored has a slot of the null page.
        """
        if (pool, device) not in self._slots:
            self._slots[pool, device] = self._made_slots(pool, device)
        return self._slots[pool, device]

    def _made_slots(self, pool: Pool, device: torch.device) -> torch.Tensor:
        size = self.page_size
        pages = [page for request in range(len(self.tables)) for page in self.pages(pool, request)]
        ids = torch.tensor(pages, dtype=torch.int64)
        counts = torch.tensor([[len(table), kv_len] for table, kv_len in zip(self.tables, self.kv_lens, strict=True)])
        behind = (counts[:, 0] * size - counts[:, 1]).cumsum(0)  # slots behind the ends of requests, so far
        ids, lengths, behind = (one.to(device, non_blocking=True) for one in (ids, counts[:, 1], behind))
        total = sum(self.kv_lens)
        place = torch.arange(total, device=device)  # of each token, if pages had no slots behind a request's end
        skipped = torch.repeat_interleave(torch.cat([behind.new_zeros(1), behind[:-1]]), lengths, output_size=total)
        place += skipped
        return ids[place // size] * size + place % size

    def places(self, pool: Pool, device: torch.device = _CPU) -> tuple[torch.Tensor | None, tuple[torch.Tensor, ...]]:
        """Return the pages of ``pool`` and the slots within them at which tokens are stored, [stored tokens] int64.

        Before them stand the tokens of the batch that these are, or None for all of them.
        """
        if (pool, device) not in self._places:
            slots, kept = self.slots(pool, device), None
            if self.has_reclaimed(pool):
                kept = (slots >= self.page_size).nonzero().view(-1)
                slots = slots[kept]
            self._places[pool, device] = kept, (slots // self.page_size, slots % self.page_size)
        return self._places[pool, device]

    def has_reclaimed(self, pool: Pool) -> bool:
        """Return whether some token of the batch is not stored in ``pool``."""
        return any(NULL_PAGE in self.pages(pool, request) for request in range(len(self.tables)))

    def tokens(self, pool: Pool) -> torch.Tensor:
        """Return the token of the batch in each slot of ``pool``, [slots] int64 on the CPU; -1 in dead slots."""
        if pool not in self._tokens:
            found = torch.full((self.num_pages[pool] * self.page_size,), -1, dtype=torch.int64)
            slots = self.slots(pool)
            found[slots] = torch.arange(len(slots))
            found[: self.page_size] = -1  # of the null page
            self._tokens[pool] = found
        return self._tokens[pool]

    def full_to_swa(self) -> torch.Tensor | None:
        """Return the swa slot of each full slot, [full slots] int64, 0 without one; None without a swa pool."""
        if self.swa_page is None:
            return None
        pages = torch.zeros(self.num_pages["full"], dtype=torch.int64)
        for full, swa in self.swa_page.items():
            pages[full] = swa
        slots = pages[:, None] * self.page_size + torch.arange(self.page_size)
        slots[pages == NULL_PAGE] = 0
        return slots.reshape(-1)


def place(case: Case, salt: int = 0) -> Layout:
    """Lay out ``case``. Another ``salt`` gives the same pages other ids (clause 13)."""
    rng = torch.Generator().manual_seed((case.seed * _SALT_STRIDE + salt) % 2**63)
    recorded = case.recorded_tables
    if recorded is not None:
        return _place_recorded(case, recorded, rng, relabel=salt != 0)
    owned = owned_pages(case)
    distinct = sorted({page for pages in owned for page in pages})
    full_ids, full_total = _label(len(distinct), case, rng, relabel=salt != 0)
    label = dict(zip(distinct, full_ids, strict=True))
    gone = reclaimed_pages(case, owned)
    swa_page = None
    num_pages: dict[Pool, int] = {"full": full_total}
    if case.paging.hybrid:
        kept = [page for page in distinct if page not in gone]
        swa_ids, swa_total = _label(len(kept), case, rng, relabel=salt != 0)
        swa_page = {label[page]: NULL_PAGE for page in gone}
        swa_page |= {label[page]: swa for page, swa in zip(kept, _derange(swa_ids, kept, label), strict=True)}
        num_pages["swa"] = swa_total
    else:
        label |= dict.fromkeys(gone, NULL_PAGE)
    tables = tuple(tuple(label[page] for page in pages) for pages in owned)
    return Layout(
        page_size=case.paging.page_size,
        tables=tables,
        swa_page=swa_page,
        kv_lens=tuple(request.kv_len for request in case.requests),
        block_tables=_block_tables(case, tables, full_total, rng),
        num_pages=num_pages,
    )


def _place_recorded(case: Case, recorded: Recorded, rng: torch.Generator, *, relabel: bool) -> Layout:
    """Lay out the recorded tables, with the pages' own ids, or with others of the same pools."""
    full = _renamed(recorded.num_pages, rng) if relabel else list(range(recorded.num_pages))
    tables = tuple(tuple(full[page] for page in table) for table in recorded.tables)
    num_pages: dict[Pool, int] = {"full": recorded.num_pages}
    swa_page = None
    if case.paging.hybrid:
        swa = _renamed(recorded.num_swa_pages, rng) if relabel else list(range(recorded.num_swa_pages))
        used = {page for table in recorded.tables for page in table}
        known = dict(recorded.swa_pages)
        swa_page = {full[page]: swa[known.get(page, NULL_PAGE)] for page in sorted(used)}
        num_pages["swa"] = recorded.num_swa_pages
    return Layout(
        page_size=case.paging.page_size,
        tables=tables,
        swa_page=swa_page,
        block_tables=_block_tables(case, tables, recorded.num_pages, rng),
        kv_lens=tuple(request.kv_len for request in case.requests),
        num_pages=num_pages,
    )


def _renamed(count: int, rng: torch.Generator) -> list[int]:
    """Return another id for each of ``count`` pages; the null page keeps its own."""
    return [NULL_PAGE, *(1 + i for i in torch.randperm(count - 1, generator=rng).tolist())]


def _label(count: int, case: Case, rng: torch.Generator, *, relabel: bool) -> tuple[list[int], int]:
    """Return ``count`` page ids, and the size of the pool with its null page."""
    total = pool_size(count, case, relabel=relabel)
    placement = placement_of(case, relabel=relabel)
    if placement == "fragmented":
        ids = [2 * i + 1 for i in torch.randperm(count, generator=rng).tolist()]
    elif placement in {"high", "far"}:
        ids = [total - 1 - i for i in torch.randperm(count, generator=rng).tolist()]
    elif placement in {"random", "recorded"}:
        ids = [i + 1 for i in torch.randperm(total - 1, generator=rng)[:count].tolist()]
    elif placement == "reversed":
        ids = list(range(count, 0, -1))
    else:
        ids = list(range(1, count + 1))
    return ids, total


def _derange(swa_ids: list[int], kept: list[int], label: dict[int, int]) -> list[int]:
    """Rotate the swa ids until none equals its full id: an identical translation would test nothing."""
    if len(kept) > 1 and any(label[page] == swa for page, swa in zip(kept, swa_ids, strict=True)):
        for _ in range(len(kept)):
            swa_ids = [*swa_ids[1:], swa_ids[0]]
            if all(label[page] != swa for page, swa in zip(kept, swa_ids, strict=True)):
                break
    return swa_ids


def _block_tables(case: Case, tables: tuple[tuple[int, ...], ...], total: int, rng: torch.Generator) -> torch.Tensor:
    rows = len(tables) + case.padding_rows
    padding = pages_needed(case.padding_keys, case.paging.page_size) if case.padding_rows else 0
    columns = max(1, padding, *(len(table) for table in tables)) + case.paging.extra_columns
    if case.paging.table_tail == "null":
        filled = torch.full((rows, columns), NULL_PAGE, dtype=torch.int32)
    elif case.paging.table_tail == "stale":
        filled = torch.randint(0, total, (rows, columns), generator=rng, dtype=torch.int32)
    else:
        outside = torch.tensor([-1, total + _FAR_OUTSIDE, 2**31 - 1], dtype=torch.int32)
        filled = outside[torch.randint(0, len(outside), (rows, columns), generator=rng)]
    numbers = filled.numpy()  # the same memory, of which a row is written in fewer steps
    for row, table in enumerate(tables):
        numbers[row, : len(table)] = table
    filled[len(tables) :, :padding] = NULL_PAGE
    return filled
