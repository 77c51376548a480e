"""A record of choices: what was chosen for one case, by name; it can be repeated, also with some choices changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from attnconf.cases.drawing.choices import Source

Record: TypeAlias = dict[str, int]
"""The choices of one case by name, in their order. A name that comes again has a mark behind it."""

_AGAIN = "'"


def recorded(source: Source, record: Record) -> Source:
    """Return ``source``, asked for each name once, with every choice written into ``record``."""

    def recording(name: str, count: int) -> int:
        while name in record:
            name += _AGAIN
        record[name] = source(name, count)
        return record[name]

    return recording


def repeated(record: Record) -> Source:
    """Return the choices of ``record`` as a source: where it has no choice it is the simplest, where too high the last.

    So every record gives a case, also one that is made of another.
    """
    return lambda name, count: min(record.get(name, 0), count - 1)
