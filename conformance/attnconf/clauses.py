"""The clauses of the contract by number. ``conformance/CONTRACT.md`` states them in full."""

from __future__ import annotations

CLAUSES: dict[int, str] = {
    1: "causal",
    2: "window",
    3: "scores",
    4: "GQA",
    5: "paging",
    6: "dead slots",
    7: "reclaimed pages",
    8: "hybrid pools",
    9: "KV sharing",
    10: "read-only",
    11: "empty rows",
    12: "independence",
    13: "relabelling",
    14: "layout",
    15: "determinism",
    16: "CUDA graphs",
    17: "consistency",
    18: "quantised KV",
    19: "host hints",
    20: "refusal",
}
"""Title by number."""


def cite(clause: int) -> str:
    """Return how a report names a clause: ``clause 2 (window)``."""
    return f"clause {clause} ({CLAUSES[clause]})"
