"""Violation: a clause that a manager or a scheduler broke, with the events that led there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.clauses import Clause, cite
from attnconf.errors import AttnconfError
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
        lines = [f"{cite(self.clause)}: {self.said}"]
        if self.story:
            lines.append(f"after {counted(len(self.story), 'event')}:")
            lines += [f"  {number}. {event.text}" for number, event in enumerate(self.story, 1)]
        return "\n".join(lines)
