"""Choices: every free decision of a drawn case, by a name that Hypothesis shows beside its value.

The options of a choice stand in order, the simplest first, and Hypothesis shrinks towards that one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypothesis.strategies import DrawFn

T = TypeVar("T")


@dataclass(frozen=True)
class Choices:
    """The choices below ``path`` (``request 1/``), made by ``draw``."""

    draw: DrawFn
    path: str = ""

    def below(self, name: str, count: int) -> int:
        """Return an integer from 0 to ``count`` - 1; where there is one option only, nothing is drawn."""
        return self.draw(st.integers(0, count - 1), self.path + name) if count > 1 else 0

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
        return self.draw(st.permutations(items), self.path + name)

    def within(self, part: str) -> Choices:
        """Return the choices of a part of the case."""
        return Choices(self.draw, f"{self.path}{part}/")
