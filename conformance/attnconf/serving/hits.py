"""What prefix hits gave each request, noted where the manager says so: a scheduler may misremember it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from attnconf.clauses import Clause
from attnconf.serving.sequences import contents
from attnconf.serving.violation import Violation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnconf.serving.managers.protocol import Manager
    from attnconf.serving.written import Written


class Hits:
    """``wrong[request]`` are the tokens whose keys were not there when a prefix hit gave them, by pool.

    They may still be written in the same batch, by a request that shares them. ``watched`` is the manager for the
    scheduler's use: the same, but its admissions are noted.
    """

    def __init__(self, memory: Manager, written: Written) -> None:
        self.wrong: dict[int, frozenset[tuple[str, int]]] = {}
        self.watched = cast("Manager", _Watched(memory, written, self.wrong))


class _Watched:
    def __init__(self, memory: Manager, written: Written, wrong: dict[int, frozenset[tuple[str, int]]]) -> None:
        self._memory = memory
        self._written = written
        self._wrong = wrong

    def __getattr__(self, name: str) -> object:
        return getattr(self._memory, name)

    def allocate(self, request: int, tokens: Sequence[int]) -> int | None:
        hit = self._memory.allocate(request, tokens)
        if hit is not None:
            table, census = self._memory.table(request), self._memory.census()
            for pool, pages in census.items():
                if evicted := set(table.pages[pool]) & set(pages.free):
                    said = f"a prefix hit gave request {request} page {min(evicted)} of the {pool} pool, which is free"
                    raise Violation(Clause.PREFIX_HITS, said)
            found = self._written.differences(table, contents(tokens[:hit]), hit)
            self._wrong[request] = frozenset((pool, token) for pool, token, _ in found)
        return hit
