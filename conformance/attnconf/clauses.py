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
    QUANTISED_KV = 18
    HOST_HINTS = 19
    REFUSAL = 20

    @property
    def title(self) -> str:
        """The clause's title in CONTRACT.md."""
        return _TITLES.get(self, self.name.lower().replace("_", " "))


_TITLES = {
    Clause.GQA: "GQA",
    Clause.KV_SHARING: "KV sharing",
    Clause.READ_ONLY: "read-only",
    Clause.CUDA_GRAPHS: "CUDA graphs",
    Clause.QUANTISED_KV: "quantised KV",
}
"""Titles that are not a member's name in lower case."""


def cite(clause: int) -> str:
    """Return how a report names a clause: ``clause 2 (window)``. Raises ``ValueError`` for a number of none."""
    return f"clause {int(clause)} ({Clause(clause).title})"
