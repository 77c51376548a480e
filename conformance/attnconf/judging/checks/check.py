"""What a check is, and what it says of itself to those who plan a run."""

from __future__ import annotations

from dataclasses import dataclass
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


def no_shapes(_shape: KernelShape) -> Iterable[KernelShape]:
    """Run no other shape than the case's own."""
    return ()


def no_pools(_case: Case) -> int:
    """Hold no other pools than the trial's own."""
    return 0


def one_pool(_case: Case) -> int:
    """Hold the case's pools once more."""
    return 1


@dataclass(frozen=True)
class Check:
    """One executable family of clauses.

    ``run`` looks at one layer of a trial whose base run succeeded, and returns what is broken. ``applies`` says whether
    it has anything to ask of this trial. An ``extra`` check runs the backend again, so a campaign rotates over them;
    the others look at the base run and always happen. An extra check that is ``on_top`` applies to few trials, so it
    comes beside the others in the rotation and takes nobody's turn; one that ``needs_gpu`` applies on a GPU alone.

    ``shapes`` returns the shapes beside the layer's own that ``run`` may ask the backend for: they are built before a
    run. ``pools`` returns how many times it holds the memory of all pools of a case: the estimate of memory adds it.
    """

    name: str
    clauses: tuple[Clause, ...]
    applies: Callable[[Trial, int], bool]
    run: Callable[[Trial, int], list[Failure]]
    extra: bool = True
    on_top: bool = False
    needs_gpu: bool = False
    shapes: Callable[[KernelShape], Iterable[KernelShape]] = no_shapes
    pools: Callable[[Case], int] = no_pools
