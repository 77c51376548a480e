"""Our own small memory: pages, a prefix cache, and a sliding pool that gives back what no window reaches.

It is the reference of what a manager must do, and what mutants of managers are made from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from attnconf.cases.geometry import first_visible
from attnconf.cases.recorded import NULL_PAGE
from attnconf.serving.managers.pages import Pages
from attnconf.serving.managers.protocol import Census, Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnconf.cases.inputs.batch import Pool

Key = tuple[int, ...]


@dataclass
class Held:
    """The pages of one request in each pool, in order; in the sliding pool 0 stands for one that was given back."""

    full: list[int] = field(default_factory=list)
    swa: list[int] = field(default_factory=list)


class OwnManager:
    """Two pools that are translated page by page, as sglang's; a page is cached under all the tokens up to its end.

    Cached pages that nobody reads are evicted when room is needed, the least recently used first.
    """

    name = "own"
    one_memory = False
    pools: tuple[Pool, ...] = ("full", "swa")

    def __init__(self, *, full: int = 18, swa: int = 12, page_size: int = 4, window_left: int = 7) -> None:
        self.page_size = page_size
        self.window_left = window_left
        self.full, self.swa = Pages(full), Pages(swa)
        self.cache: dict[Key, int] = {}
        self.swa_of: dict[int, int] = {}
        self.held: dict[int, Held] = {}

    def fits(self, tokens: int) -> bool:
        """Whether both pools have so many pages; a chunk of a sliding layer is held whole until it is written."""
        return self._needed(tokens) <= min(self.full.count, self.swa.count)

    def match_prefix(self, tokens: Sequence[int]) -> Table:
        """Return the longest cached prefix of whole pages whose window is still in the sliding pool."""
        full = []
        for place in range(len(tokens) // self.page_size):
            page = self.cache.get(self._key(tokens, place))
            if page is None:
                break
            full.append(page)
        while full and not self._has_window(full):
            full.pop()
        return self._table(full, [self.swa_of[page] for page in full])

    def allocate(self, request: int, tokens: Sequence[int]) -> int | None:
        """Claim the cached prefix of all tokens but the last."""
        hit = self.match_prefix(tokens[:-1])
        held = Held(list(hit.pages["full"]))
        for place, page in enumerate(held.full):
            self.full.share(page)
            self._used(tokens, place)
            kept = self.swa_of[page] if place >= self._first_needed(hit.tokens) else NULL_PAGE
            held.swa.append(kept)
            if kept != NULL_PAGE:
                self.swa.share(kept)
        self.held[request] = held
        return hit.tokens

    def extend(self, request: int, tokens: Sequence[int], upto: int) -> bool:
        """Take pages until ``upto`` tokens have room, after eviction if need be."""
        del tokens
        held = self.held[request]
        missing = self._needed(upto) - len(held.full)
        if not self._make_room(missing):
            return False
        for _ in range(missing):
            page, sliding = self.full.take(), self.swa.take()
            self.swa_of[page] = sliding
            held.full.append(page)
            held.swa.append(sliding)
        return True

    def commit(self, request: int, tokens: Sequence[int]) -> None:
        """Cache whole pages, give back the pages of rejected drafts, and those that no window reaches any more."""
        held, written = self.held[request], len(tokens)
        while len(held.full) > self._needed(written):
            self._leave(held.full.pop(), held.swa.pop())
        for place in range(written // self.page_size):
            key = self._key(tokens, place)
            if key not in self.cache and held.swa[place] != NULL_PAGE:
                self.cache[key] = held.full[place]
                self.full.cached.add(held.full[place])
                self.swa.cached.add(held.swa[place])
        for place in range(self._first_needed(written)):
            sliding, held.swa[place] = held.swa[place], NULL_PAGE
            if sliding != NULL_PAGE:
                self._leave_swa(held.full[place], sliding)

    def free(self, request: int) -> None:
        """Leave all pages of the request."""
        held = self.held.pop(request)
        for page, sliding in zip(held.full, held.swa, strict=True):
            self._leave(page, sliding)

    def evict(self) -> None:
        """Give up every cached page that nobody reads."""
        while self._evict_one():
            pass

    def table(self, request: int) -> Table:
        """Return the pages of a request."""
        held = self.held[request]
        return self._table(held.full, held.swa)

    def census(self) -> Mapping[Pool, Census]:
        """Return the pages of both pools."""
        return {"full": self.full.census, "swa": self.swa.census}

    def _table(self, full: Sequence[int], swa: Sequence[int]) -> Table:
        return Table(self.page_size, len(full) * self.page_size, {"full": tuple(full), "swa": tuple(swa)})

    def _needed(self, tokens: int) -> int:
        return -(-tokens // self.page_size)

    def _first_needed(self, written: int) -> int:
        """Return the first page that a row behind ``written`` tokens sees in a sliding layer."""
        return first_visible(written, self.window_left) // self.page_size

    def _key(self, tokens: Sequence[int], place: int) -> Key:
        return tuple(tokens[: (place + 1) * self.page_size])

    def _has_window(self, full: Sequence[int]) -> bool:
        needed = full[self._first_needed(len(full) * self.page_size) :]
        return all(self.swa_of[page] != NULL_PAGE for page in needed)

    def _used(self, tokens: Sequence[int], place: int) -> None:
        key = self._key(tokens, place)
        self.cache[key] = self.cache.pop(key)  # to the end: the most recently used

    def _leave(self, page: int, sliding: int) -> None:
        if sliding != NULL_PAGE:
            self._leave_swa(page, sliding)
        self.full.leave(page)

    def _leave_swa(self, page: int, sliding: int) -> None:
        """Read a sliding page no longer; when that frees it, its full page is translated to nothing."""
        self.swa.leave(sliding)
        if not self.swa.readers[sliding] and sliding not in self.swa.cached:
            self.swa_of[page] = NULL_PAGE

    def _make_room(self, missing: int) -> bool:
        while min(len(self.full.free), len(self.swa.free)) < missing:
            if not self._evict_one():
                return False
        return True

    def _evict_one(self) -> bool:
        """Give up the least recently used cached page that nobody reads, or that nobody reads in the sliding pool."""
        for key, page in self.cache.items():
            sliding = self.swa_of[page]
            if not self.full.readers[page]:
                del self.cache[key]
                self._forget_swa(page, sliding)
                self.full.forget(page)
                return True
            if sliding in self.swa.cached and not self.swa.readers[sliding]:
                self._forget_swa(page, sliding)
                return True
        return False

    def _forget_swa(self, page: int, sliding: int) -> None:
        if sliding != NULL_PAGE:
            self.swa_of[page] = NULL_PAGE
            self.swa.forget(sliding)
