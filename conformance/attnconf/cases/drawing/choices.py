"""Choices: every free decision of a drawn case, by its name, from whatever source makes it.

The options of a choice stand in order, the simplest first, and shrinking goes towards that one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

Source: TypeAlias = Callable[[str, int], int]
"""A function that makes the choice of this name among so many options, and returns its number, from 0."""


@dataclass(frozen=True)
class Choices:
    """The choices below ``path`` (``request 1/``), made by ``source``."""

    source: Source
    path: str = ""

    def below(self, name: str, count: int) -> int:
        """Return an integer from 0 to ``count`` - 1; where there is one option only, nothing is drawn."""
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
        left = list(items)
        return [left.pop(self.below(f"{name} {place}", len(left))) for place in range(len(items))]

    def within(self, part: str) -> Choices:
        """Return the choices of a part of the case."""
        return Choices(self.source, f"{self.path}{part}/")
