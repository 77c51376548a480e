"""Further cases: those of a campaign's space that come behind its own, by number, for a backend that needs others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from attnconf.cases.drawing.counter import counted
from attnconf.cases.drawing.draws import Drawn, Draws

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attnconf.cases.case import Case


@dataclass(frozen=True)
class Further(Draws):
    """The cases of these ``numbers``, as they are drawn: none is picked, and none is that of a card."""

    numbers: tuple[int, ...]

    @cached_property
    def cases(self) -> tuple[Case, ...]:
        """The cases in the order of their numbers, each once."""
        return tuple({one.case.id: one.case for one in self.pool}.values())

    @cached_property
    def pool(self) -> tuple[Drawn, ...]:
        """The cases with the choices that give them."""
        return tuple(self.drawn(counted(self.seed, number)) for number in self.numbers)


def behind(draws: Draws, most: int) -> Iterator[tuple[int, Case]]:
    """Yield up to ``most`` numbers, and their cases, behind those of ``draws``."""
    for number in range(len(draws.pool), len(draws.pool) + most):
        yield number, draws.drawn(counted(draws.seed, number)).case


def further(draws: Draws, numbers: tuple[int, ...]) -> Further:
    """Return the cases of ``numbers`` behind ``draws``."""
    return Further(draws.space, draws.seed, len(numbers), numbers)
