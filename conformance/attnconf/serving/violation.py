"""Violation: a clause that a manager or a scheduler broke, with the events that led there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.clauses import Clause, cite
from attnconf.errors import AttnconfError
from attnconf.serving.events import story_lines
from attnconf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnconf.serving.events import Event


class Violation(AttnconfError):  # noqa: N818 - a verdict, not an error of attnconf
    """A broken clause: ``said`` in one sentence, and ``story``, the events in their order."""

    def __init__(self, clause: Clause, said: str, story: Sequence[Event] = ()) -> None:
        self.clause = clause
        self.said = said
        self.story = tuple(story)
        super().__init__(self._text())

    def _text(self) -> str:
        return "\n".join([self.sentence, *self.lines])

    @property
    def kind(self) -> object:
        """What is wrong, without the numbers."""
        return self.clause

    @property
    def sentence(self) -> str:
        """The clause and how it is broken, on one line."""
        return f"{cite(self.clause)}: {self.said}"

    @property
    def lines(self) -> list[str]:
        """The story in words; none without one."""
        if not self.story:
            return []
        return [f"after {counted(len(self.story), 'event')}:", *story_lines(self.story)]
