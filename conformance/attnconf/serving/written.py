"""What each slot of the pools really holds: which token's keys were written there last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.cases.geometry import first_visible
from attnconf.clauses import Clause
from attnconf.serving.violation import Violation

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from attnconf.cases.inputs.batch import Pool
    from attnconf.serving.managers.protocol import Census, Manager, Table
    from attnconf.serving.sequences import Content


class Written:
    """The contents of every slot, and of whom: filled through the tables that the manager gave for writing."""

    def __init__(self, memory: Manager) -> None:
        self._memory = memory
        shared: dict[int, tuple[Pool, Content]] = {}
        self._slots = {pool: shared if memory.one_memory else {} for pool in memory.pools}
        self._writers: dict[Pool, dict[int, int]] = {pool: {} for pool in memory.pools}
        self._rejected: set[Content] = set()

    def write(self, request: int, table: Table, start: int, new: Sequence[Content]) -> None:
        """Store the keys of ``new`` tokens from position ``start`` on, in every pool.

        Raises ``Violation`` where the table has no slot for one.
        """
        for pool in self._memory.pools:
            for token, content in enumerate(new, start):
                slot = table.slot(pool, token)
                if slot is None:
                    said = f"request {request} has no slot in the {pool} pool for its new token {token}"
                    raise Violation(Clause.STEPS, said)
                self._slots[pool][slot] = (pool, content)
                self._writers[pool][slot] = request

    def reject(self, drafts: Sequence[Content]) -> None:
        """Remember which contents were rejected drafts."""
        self._rejected.update(drafts)

    def differences(
        self, table: Table, expected: Sequence[Content], position: int
    ) -> Iterator[tuple[Pool, int, int | None]]:
        """Yield pool, token and slot of each key of ``expected`` that a row at ``position`` sees, but does not find.

        ``expected`` may end behind ``position``.
        """
        for pool in self._memory.pools:
            window = self._memory.window_left if pool == "swa" else -1
            slots = self._slots[pool]
            for token in range(first_visible(position, window), len(expected)):
                slot = table.slot(pool, token)
                if slot is None or slots.get(slot) != (pool, expected[token]):
                    yield pool, token, slot

    def check(  # noqa: PLR0913 - what is read, by whom, and what is known of it
        self,
        request: int,
        table: Table,
        expected: Sequence[Content],
        position: int,
        wrong_hits: Collection[tuple[str, int]],
        census: Mapping[Pool, Census],
        running: Collection[int],
    ) -> None:
        """Raise ``Violation`` unless a row at ``position`` finds the keys of ``expected``, as far as it sees them.

        ``wrong_hits`` are pool and token of what a prefix hit gave the request although it was not there, and
        ``running`` the requests that hold memory.
        """
        for pool, token, slot in self.differences(table, expected, position):
            what = f"token {token} of request {request} in the {pool} pool"
            page = None if slot is None else slot // self._memory.page_size
            found = None if slot is None else self._slots[pool].get(slot)
            if {expected[token], *(found or ())} & self._rejected:
                raise Violation(Clause.DRAFTS, f"{what}: page {page} has the key of a rejected draft")
            if (pool, token) in wrong_hits:
                has = "it was gone" if page is None else f"page {page} held another key"
                raise Violation(Clause.PREFIX_HITS, f"a prefix hit gave {what}, but {has}")
            if page is None:
                raise Violation(Clause.PAGES, f"{what} was given back, and is still read")
            if page in census[pool].free:
                raise Violation(Clause.PAGES, f"{what}: page {page} was given back, and is still read")
            writer = None if slot is None else self._writers[pool].get(slot)
            if writer in running and writer != request:
                raise Violation(Clause.PAGES, f"{what}: request {writer} has written to page {page}, too")
            raise Violation(Clause.STEPS, f"{what} was never written, and is read")
