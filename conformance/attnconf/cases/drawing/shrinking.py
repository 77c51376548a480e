"""Shrinking: lower the choices of a failing case, all, by parts and one by one, as long as what they give still fails.

A record is simpler where its first differing choice is lower. Choices are known by name, so one that is lowered leaves
the others as they are, also those behind it. Hypothesis cannot do this part: it shrinks nothing but what it has drawn
itself, and what it shrinks to changes with its version.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from attnconf.cases.drawing.record import Record

_FEW = 16
"""Up to so many options are tried one after the other; more are halved, as if all above one that fails did so."""

_NUMBERED = re.compile(r"(.* )(\d+)/")
"""The path of a part that has a number: ``request 1/``. A case can leave out its last parts alone."""


def shrink(failing: Record, ask: Callable[[Record], Record | None]) -> list[Record]:
    """Return records that fail, each found on the way down from the one before: ``failing`` first, the simplest last.

    ``ask`` returns the choices that a record really gave, if that case fails, and None otherwise.
    """
    search = _Search(failing, ask)
    search.run()
    return search.descent


class _Search:
    """The failing records so far, down to the simplest."""

    def __init__(self, failing: Record, ask: Callable[[Record], Record | None]) -> None:
        self.descent = [failing]
        self._ask = ask

    @property
    def best(self) -> Record:
        return self.descent[-1]

    def run(self) -> None:
        for kind in _kinds(self.best):
            any(self._take(candidate) for candidate in _first_parts(self.best, kind))
        before: Record | None = None
        while self.best != before:
            before = self.best
            self._clear()
            for name in list(self.best):
                self._lower(name)
            self._clear_and_move()

    def _clear(self) -> None:
        """Make the whole case the simplest, or one of its parts."""
        self._try({})
        for path in dict.fromkeys(map(_path, self.best)):
            self._try({name: value for name, value in self.best.items() if _path(name) != path})

    def _clear_and_move(self) -> None:
        """Make one choice the simplest and a later part the first: what is left may need both."""
        for kind in _kinds(self.best):
            for moved in _first_parts(self.best, kind):
                any(self._try({**moved, name: 0}) for name, value in moved.items() if value)

    def _lower(self, name: str) -> None:
        """Lower one choice as far as the case fails."""
        lowest, value = 0, self.best.get(name, 0)
        if value <= _FEW:
            any(self._try({**self.best, name: lower}) for lower in range(value))
            return
        if self._try({**self.best, name: 0}):
            return
        while name in self.best and self.best[name] - lowest > 1:
            middle = (lowest + self.best[name]) // 2
            if not self._try({**self.best, name: middle}):
                lowest = middle

    def _try(self, candidate: Record) -> bool:
        """Take ``candidate`` if it fails and is simpler."""
        found = None if candidate == self.best else self._ask(candidate)
        if found is None or list(found.values()) >= list(self.best.values()):
            return False
        self.descent.append(found)
        return True

    def _take(self, candidate: Record) -> bool:
        """Take ``candidate`` if it fails."""
        found = self._ask(candidate)
        if found is not None:
            self.descent.append(found)
        return found is not None


def _kinds(record: Record) -> list[str]:
    """Return the kinds of numbered parts that ``record`` has."""
    return list(dict.fromkeys(found[1] for name in record if (found := _NUMBERED.match(name))))


def _first_parts(record: Record, kind: str) -> Iterator[Record]:
    """Yield ``record`` with a later part of a ``kind`` as its first one, the last one first: those before it go."""
    numbers = sorted({int(found[2]) for name in record if (found := _NUMBERED.match(name)) and found[1] == kind})
    for first in reversed([number for number in numbers if number]):
        moved: Record = {}
        for name, value in record.items():
            found = _NUMBERED.match(name)
            if found is None or found[1] != kind:
                moved[name] = value
            elif int(found[2]) >= first:
                moved[f"{kind}{int(found[2]) - first}/{name[found.end() :]}"] = value
        yield moved


def _path(name: str) -> str:
    return name.rpartition("/")[0]
