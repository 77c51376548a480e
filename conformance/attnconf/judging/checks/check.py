"""Check: one executable family of clauses. Its outline is what a plan of a run must know about it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from attnconf.cases.case import Case
    from attnconf.cases.shape import KernelShape
    from attnconf.clauses import Clause
    from attnconf.judging.result import Failure
    from attnconf.judging.trial import Trial


def always(_trial: Trial, _layer: int) -> bool:
    """Apply to every trial."""
    return True


def in_turn(_case: Case) -> bool:
    """Take turns with other checks, whatever the case."""
    return True


def no_shapes(_shape: KernelShape) -> Iterable[KernelShape]:
    """Need no shape but the case's own."""
    return ()


def no_pools(_case: Case) -> int:
    """Need no pools but the trial's own."""
    return 0


@dataclass(frozen=True)
class Outline:
    """What a plan of a run must know about a check, and no tensor is needed for.

    An ``extra`` check runs the backend again, so campaigns rotate over these; all others inspect the base run and
    always run. An extra check that is ``on_top`` applies to few trials, so it is added to the rotation without taking
    another check's turn; one that ``needs_gpu`` applies on a GPU only.

    ``bites`` says of a case whether the check can find anything in it, if that is rare: it is added wherever it can.

    ``shapes`` returns the shapes besides the layer's own that the check may use; they are built before a run. ``pools``
    returns how many times it needs the memory of all pools of a case, for the estimate of memory.
    """

    name: str
    clauses: tuple[Clause, ...]
    extra: bool = True
    on_top: bool = False
    needs_gpu: bool = False
    bites: Callable[[Case], bool] = in_turn
    shapes: Callable[[KernelShape], Iterable[KernelShape]] = no_shapes
    pools: Callable[[Case], int] = no_pools

    def check(self, applies: Callable[[Trial, int], bool], run: Callable[[Trial, int], list[Failure]]) -> Check:
        """Return the check of this outline."""
        return Check(**{one.name: getattr(self, one.name) for one in fields(Outline)}, applies=applies, run=run)


@dataclass(frozen=True, kw_only=True)
class Check(Outline):
    """One executable family of clauses.

    ``run`` inspects one layer of a trial whose base run succeeded, and returns its failures. ``applies`` says whether
    the check means anything for a trial.
    """

    applies: Callable[[Trial, int], bool]
    run: Callable[[Trial, int], list[Failure]]
