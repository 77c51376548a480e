"""What a check is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.judging.result import Failure
    from attnconf.judging.trial import Trial


@dataclass(frozen=True)
class Check:
    """One executable family of clauses.

    ``run`` looks at one layer of a trial whose base run succeeded, and returns what is broken. ``applies`` says whether
    it has anything to ask of this trial. An ``extra`` check runs the backend again, so a campaign rotates over them;
    the others look at the base run and always happen.
    """

    name: str
    clauses: tuple[int, ...]
    applies: Callable[[Trial, int], bool]
    run: Callable[[Trial, int], list[Failure]]
    extra: bool = True


def always(_trial: Trial, _layer: int) -> bool:
    """Apply to every trial."""
    return True
