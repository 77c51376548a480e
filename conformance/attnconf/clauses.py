"""The clauses of the contract by number. ``conformance/CONTRACT.md`` states them in full."""

from __future__ import annotations

from enum import IntEnum


class Clause(IntEnum):
    """One clause of the contract: its number, under the name that its title gives it."""

    CAUSAL = 1
    WINDOW = 2
    SCORES = 3
    GQA = 4
    PAGING = 5
    DEAD_SLOTS = 6
    RECLAIMED_PAGES = 7
    HYBRID_POOLS = 8
    KV_SHARING = 9
    READ_ONLY = 10
    EMPTY_ROWS = 11
    INDEPENDENCE = 12
    RELABELLING = 13
    LAYOUT = 14
    DETERMINISM = 15
    CUDA_GRAPHS = 16
    CONSISTENCY = 17
    QUANTISED = 18
    HOST_HINTS = 19
    REFUSAL = 20
    REQUESTS = 21
    PAGES = 22
    PREFIX_HITS = 23
    DRAFTS = 24
    STEPS = 25
    EVENT_ORDER = 26

    @property
    def title(self) -> str:
        """The clause's title in CONTRACT.md."""
        return _TITLES.get(self, self.name.lower().replace("_", " "))


_TITLES = {
    Clause.GQA: "GQA",
    Clause.KV_SHARING: "KV sharing",
    Clause.READ_ONLY: "read-only",
    Clause.CUDA_GRAPHS: "CUDA graphs",
    Clause.QUANTISED: "8-bit storage",
    Clause.REQUESTS: "conservation of requests",
    Clause.PAGES: "conservation of pages",
    Clause.DRAFTS: "rejected drafts",
    Clause.EVENT_ORDER: "order of events",
}
"""Titles that are not a member's name in lower case."""

SERVING = frozenset(clause for clause in Clause if clause > Clause.REFUSAL)
"""The clauses that bind a scheduler and its memory manager, and no backend."""


def cite(clause: int) -> str:
    """Return how a report names a clause: ``clause 2 (window)``. Raises ``ValueError`` for a number of none."""
    return f"clause {int(clause)} ({Clause(clause).title})"
