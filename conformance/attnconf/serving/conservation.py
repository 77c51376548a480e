"""Conservation: requests end once, and pages are owned once."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from attnconf.cases.recorded import NULL_PAGE
from attnconf.clauses import Clause
from attnconf.serving.violation import Violation
from attnconf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from attnconf.cases.inputs.batch import Pool
    from attnconf.serving.managers.protocol import Census, Table
    from attnconf.serving.scheduler import Scheduler


def check_requests(submitted: Collection[int], scheduler: Scheduler) -> None:
    """Raise ``Violation`` unless each submitted request waits, runs or has ended, exactly once."""
    places = Counter(one.request for one in (*scheduler.waiting, *scheduler.running))
    ends = Counter(end.request for end in scheduler.ended)
    for request in submitted:
        count = places[request] + ends[request]
        if not count:
            raise Violation(Clause.REQUESTS, f"request {request} neither waits nor runs nor has ended: it is lost")
        if count > 1:
            where = f"{counted(places[request], 'time')} scheduled and {counted(ends[request], 'time')} ended"
            raise Violation(Clause.REQUESTS, f"request {request} is {where}")
    if strange := (places.keys() | ends.keys()) - set(submitted):
        raise Violation(Clause.REQUESTS, f"request {min(strange)} was never submitted")


def check_pages(tables: Mapping[int, Table], census: Mapping[Pool, Census], *, one_memory: bool = False) -> None:
    """Raise ``Violation`` unless each page of each pool is free, cached or held, and a free one nothing else."""
    if one_memory:
        _check_one_memory(tables, census)
    for pool, pages in census.items():
        held: dict[int, int] = {}
        for request, table in tables.items():
            own = [page for page in table.pages[pool] if page != NULL_PAGE]
            twice = [page for page, count in Counter(own).items() if count > 1]
            if twice:
                said = f"page {twice[0]} of the {pool} pool is twice in request {request}'s table"
                raise Violation(Clause.PAGES, said)
            held |= dict.fromkeys(own, request)
        free = set(pages.free)
        if len(free) != len(pages.free):
            page = next(page for page, count in Counter(pages.free).items() if count > 1)
            raise Violation(Clause.PAGES, f"page {page} of the {pool} pool is twice in the free list")
        if both := free & held.keys():
            page = min(both)
            raise Violation(Clause.PAGES, f"page {page} of the {pool} pool is free, and request {held[page]} holds it")
        if both := free & pages.cached:
            raise Violation(Clause.PAGES, f"page {min(both)} of the {pool} pool is free, and cached")
        if lost := pages.every - free - pages.cached - held.keys():
            said = (
                f"{counted(len(lost), 'page')} of the {pool} pool (page {min(lost)}) is lost: not free, cached or held"
            )
            raise Violation(Clause.PAGES, said)
        if strange := (free | pages.cached | held.keys()) - pages.every:
            raise Violation(Clause.PAGES, f"page {min(strange)} is none of the {pool} pool")


def _check_one_memory(tables: Mapping[int, Table], census: Mapping[Pool, Census]) -> None:
    owners: dict[int, Pool] = {}
    for table in tables.values():
        for pool in census:
            for page in table.pages[pool]:
                if page != NULL_PAGE and owners.setdefault(page, pool) != pool:
                    raise Violation(Clause.PAGES, f"page {page} is held in the {owners[page]} and in the {pool} pool")
