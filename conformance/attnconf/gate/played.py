"""Played: what a run played of the machine of serving for one backend and model, and the clause that it broke."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from attnconf.clauses import Clause, cite
from attnconf.gate.cells import Count
from attnconf.values import Value
from attnconf.wording import counted


class BrokenClause(Value):
    """A clause of a scheduler or its memory that a story breaks, ``said`` in one sentence.

    ``story`` are its events in words, in their order, and ``replay`` the command that tells it again.
    """

    clause: Annotated[int, Field(ge=Clause.REQUESTS, le=max(Clause))]
    said: str
    story: tuple[str, ...]
    replay: str

    @property
    def sentence(self) -> str:
        """Clause, what is wrong, after how many events, and the command."""
        return f"{cite(self.clause)}: {self.said}, after {counted(len(self.story), 'event')} ({self.replay})"


class PlayedStories(Value):
    """The events that happened, by kind, in ``stories`` over ``memory``, with ``batches`` among them.

    ``asked`` is how many cases were made of the batches, and asked of the backend.
    ``backend`` and ``model`` are those of the test. Clauses 21 to 26 were checked behind every event, and hold unless
    ``broken`` says otherwise. A story that breaks one ends the playing, and then nothing is counted.
    """

    backend: str
    model: str
    memory: str
    stories: Count = 0
    batches: Count = 0
    asked: Count = 0
    events: dict[str, Count] = Field(default_factory=dict)
    broken: BrokenClause | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What one run plays once."""
        return self.backend, self.model

    @property
    def count(self) -> int:
        """How many events happened."""
        return sum(self.events.values())


def played_lines(played: tuple[PlayedStories, ...]) -> list[str]:
    """Return a line for each model and memory: what was played, on which backends, and whether the clauses hold."""
    found: dict[tuple[str, str], list[PlayedStories]] = {}
    for one in sorted(played, key=lambda one: one.key):
        found.setdefault((one.model, one.memory), []).append(one)
    return [_line(model, memory, members) for (model, memory), members in found.items()]


def broken_lines(played: tuple[PlayedStories, ...]) -> list[str]:
    """Return what is broken, in a sentence for each model and memory."""
    return played_lines(tuple(one for one in played if one.broken is not None))


def _line(model: str, memory: str, members: list[PlayedStories]) -> str:
    first = members[0]
    where = f"machine, {model} over the memory {memory!a}"
    broken = next((one.broken for one in members if one.broken is not None), None)
    if broken is not None:
        return f"{where}: {broken.sentence}"
    what = f"{counted(first.count, 'event')} in {first.stories:,} stories"
    batches = f"{first.asked:,} cases of {first.batches:,} batches asked of {', '.join(one.backend for one in members)}"
    return f"{where}: {what}, {batches}; clauses {int(Clause.REQUESTS)} to {int(max(Clause))} hold"
