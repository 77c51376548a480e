"""The pages of one pool of our own manager: who reads each, and which are free."""

from __future__ import annotations

from collections import Counter

from attnconf.serving.managers.protocol import Census


class Pages:
    """``count`` pages with ids from 1 on; page 0 is the null page. A page that nobody reads or caches is free."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.free = list(range(1, count + 1))
        self.readers: Counter[int] = Counter()
        self.cached: set[int] = set()

    def take(self) -> int:
        """Return a free page, with one reader."""
        page = self.free.pop(0)
        self.readers[page] = 1
        return page

    def share(self, page: int) -> None:
        """Count one more reader of ``page``."""
        self.readers[page] += 1

    def leave(self, page: int) -> None:
        """Count one reader of ``page`` less; without readers it is free, unless it is cached."""
        self.readers[page] -= 1
        self._free_if_unused(page)

    def forget(self, page: int) -> None:
        """Keep ``page`` for prefix hits no longer."""
        self.cached.discard(page)
        self._free_if_unused(page)

    def _free_if_unused(self, page: int) -> None:
        if not self.readers[page] and page not in self.cached:
            self.free.append(page)

    @property
    def census(self) -> Census:
        """All pages of the pool, by state."""
        idle = frozenset(page for page in self.cached if not self.readers[page])
        return Census(frozenset(range(1, self.count + 1)), tuple(self.free), idle)
