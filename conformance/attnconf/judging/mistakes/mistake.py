"""Mistake: a known kind of bug with its name, what it breaks, and the answer of a kernel that has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from attnconf.cases.features import Feature
from attnconf.clauses import Clause
from attnconf.oracle.attention import attend_all
from attnconf.oracle.problem import Answer, Problem

if TYPE_CHECKING:
    from attnconf.judging.mistakes.scene import Scene

Mistaken: TypeAlias = Problem | Answer | None
"""Another problem that a mistaken kernel solves, or its answer if no problem has that answer; None: no difference."""

Apply: TypeAlias = "Callable[[Scene], Mistaken]"

Broken: TypeAlias = Feature | Literal["lse", "split"]
"""What a mistake breaks. No case can show the last two: mistakes in the LSE and in merges are never claimed."""


@dataclass(frozen=True)
class Mistake:
    """A known kind of bug: ``apply`` returns its answer to a scene, or None where it makes no difference.

    ``feature`` is the feature that a case needs for it, ``clause`` the clause that it breaks. A feature is covered only
    where all its ``claimed`` mistakes show. A mistake that is not claimed shows only in some cases with the feature,
    for example under a low soft cap or with a tail of several slots, so coverage does not depend on it.
    """

    name: str
    feature: Broken
    clause: Clause
    text: str
    apply: Apply
    claimed: bool = True


def unless_alike(right: Problem, wrong: Problem) -> Problem | None:
    """Return ``wrong``, or None where every row sees the keys in it that it sees in ``right``, which has the same."""
    last = right.k.shape[0] - 1

    def visible(problem: Problem) -> Iterator[tuple[int, int, list[int]]]:
        for row, position in enumerate(problem.positions.tolist()):
            first, end = problem.sight(position, row)
            yield max(0, first), min(end, last), [key for key in problem.between(row) if key > first]

    # a prefill has thousands of rows, and most mistakes show in one of the first
    alike = all(one == other for one, other in zip(visible(right), visible(wrong), strict=True))
    return None if alike else wrong


def answers_to(mistaken: Sequence[Problem | Answer]) -> list[Answer]:
    """Return the answers of mistaken kernels; all that have a problem are solved together."""
    problems = [one for one in mistaken if isinstance(one, Problem)]
    solved = attend_all(problems) if problems else None
    found: list[Answer] = []
    start = 0
    for one in mistaken:
        if isinstance(one, Answer) or solved is None:
            found.append(cast("Answer", one))
            continue
        rows = slice(start, start + one.q.shape[0])
        found.append(Answer(solved.out[rows], solved.lse[rows]))
        start = rows.stop
    return found
