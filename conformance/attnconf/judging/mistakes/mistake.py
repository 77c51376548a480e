"""What a mistake is: a name, what it breaks, and the answer of a kernel that makes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from attnconf.cases.features import Feature
from attnconf.clauses import Clause
from attnconf.oracle import Answer, Problem, attend

if TYPE_CHECKING:
    from attnconf.judging.mistakes.scene import Scene

Mistaken: TypeAlias = Problem | Answer | None
"""What a mistaken kernel answers: another problem, or another answer where no problem has it; None: what is asked."""

Apply: TypeAlias = "Callable[[Scene], Mistaken]"

Broken: TypeAlias = Feature | Literal["lse", "split"]
"""What a mistake breaks. None that breaks the LSE or the merge of a split is claimed, so no case can show these two."""


@dataclass(frozen=True)
class Mistake:
    """A known kind of bug: ``apply`` returns what it answers to a scene, or None where it makes no difference.

    ``feature`` is what a case must have for it, ``clause`` the clause of the contract that it breaks. The feature
    counts as covered only where every mistake that it ``claims`` shows. One that is not claimed is shown by what some
    cases happen to hold (a soft cap that is low enough, a tail of several slots), and no case can be held to it.
    """

    name: str
    feature: Broken
    clause: Clause
    text: str
    apply: Apply
    claimed: bool = True


def answer_to(asked: Problem | Answer) -> Answer:
    """Return the answer of a mistaken kernel, whichever way it is told."""
    return asked if isinstance(asked, Answer) else attend(asked)
