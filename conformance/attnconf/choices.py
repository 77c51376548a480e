# INTEGRATOR: read /tmp/w/h-pow/AAA-INTEGRATOR-READ-THIS.md before going on.
"""Choices: every free decision of a drawn case, by name. A case can so be drawn, replayed, and made simpler.

A choice has so many options, the simplest first, and takes one by its index. Its name is a path
(``request 1/new tokens``): another option of one choice leaves the others as they are, also where it takes a part of
the case away.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Source = Callable[[str, int], int]

T = TypeVar("T")


@dataclass(frozen=True)
class Choices:
    """The choices below ``path``. ``source`` answers a name and a count with an index below that count."""

    source: Source
    path: str = ""

    def below(self, name: str, count: int) -> int:
        """Return an integer from 0 to ``count`` - 1; where there is one option only, nothing is asked."""
        return self.source(self.path + name, count) if count > 1 else 0

    def between(self, name: str, least: int, most: int) -> int:
        """Return an integer from ``least`` to ``most``, both included."""
        return least + self.below(name, most - least + 1)

    def pick(self, name: str, options: Sequence[T]) -> T:
        """Return one of ``options``."""
        return options[self.below(name, len(options))]

    def flip(self, name: str) -> bool:
        """Return True or False; False is the simpler one."""
        return bool(self.below(name, 2))

    def shuffled(self, name: str, items: Sequence[T]) -> list[T]:
        """Return ``items`` in any order; as they are is the simplest one."""
        left, found = list(items), list[T]()
        while left:
            found.append(left.pop(self.below(f"{name} {len(found)}", len(left))))
        return found

    def within(self, part: str) -> Choices:
        """Return the choices of a part of the case."""
        return Choices(self.source, f"{self.path}{part}/")


class Drawn:
    """A source that draws by a seed: the same everywhere. ``taken`` is what it answered."""

    def __init__(self, seed: str) -> None:
        self._rng = random.Random(seed)  # noqa: S311 - a sample, no secret
        self.taken: dict[str, int] = {}

    def __call__(self, name: str, count: int) -> int:
        """Draw an index."""
        self.taken[name] = self._rng.randrange(count)
        return self.taken[name]


class Replayed:
    """A source that answers as before, with the nearest option where there are fewer now, and else the simplest."""

    def __init__(self, before: Mapping[str, int]) -> None:
        self._before = before
        self.taken: dict[str, int] = {}

    def __call__(self, name: str, count: int) -> int:
        """Return the index of before."""
        self.taken[name] = min(self._before.get(name, 0), count - 1)
        return self.taken[name]


def simplify(taken: dict[str, int], still: Callable[[dict[str, int]], dict[str, int] | None]) -> None:
    """Look for simpler choices than ``taken`` that will do: many at once first, then each on its own.

    ``still`` tries some, and returns those that were really taken, or None if they will not do. Every success lowers
    the sum of all indices, so the search ends.
    """
    step = len(taken)
    while step := step // 2:
        for names in _runs([name for name, index in taken.items() if index], step):
            taken = still({**taken, **dict.fromkeys(names, 0)}) or taken
    lowered = True
    while lowered:
        lowered = False
        for name in list(taken):
            tried = (still({**taken, name: index}) for index in _smaller(taken.get(name, 0)))
            found = next((one for one in tried if one is not None), None)
            if found is not None:
                taken, lowered = found, True


def _runs(names: Sequence[str], step: int) -> Iterator[Sequence[str]]:
    return (names[start : start + step] for start in range(0, len(names), step))


def _smaller(index: int) -> Iterator[int]:
    """Return indices below ``index``: 0, then by half of the way each time closer to it."""
    tried, way = 0, index
    while way:
        yield tried
        way = (index - tried) // 2
        tried = index - way
