"""A policy beside an engine, in lines: what was asked, what the engine refuses, and a table of differences."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnconf.policy.drift.compare import Drift

_MOST = 40
"""More groups of differences say no more than that the policy is another one."""


def drift_lines(drift: Drift) -> list[str]:
    """Return the report; a table row a group of questions on which the two differ in the same way."""
    found = f"{drift.questions} questions, {len(drift.differences)} kinds of difference"
    lines = [f"policy {drift.policy} and {drift.engine} {drift.version}: {found}; both refuse {drift.refused}"]
    lines += [f"  {count} refused by the engine: {sentence}" for sentence, count in drift.refusals.items()]
    if drift.differences:
        lines += ["", "questions | the policy says | the engine does | first of them"]
    lines += [f"{one.count} | {one.policy} | {one.engine} | {one.example}" for one in drift.differences[:_MOST]]
    rest = drift.differences[_MOST:]
    if rest:
        lines.append(f"{sum(one.count for one in rest)} | {len(rest)} further kinds, all of them with --json")
    return lines
