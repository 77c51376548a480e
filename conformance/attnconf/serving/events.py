"""Events: what happens to a scheduler, as values that tell themselves in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from attnconf.serving.sequences import VOCABULARY
from attnconf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

_FORBID = ConfigDict(extra="forbid")
_MOST_SHOWN = 48
"""Tokens of a prompt that a story shows."""

_MOST = 4096
"""Of anything in an event: a story is one of few small requests, and ends within seconds."""

Number = Annotated[int, Field(ge=0, le=_MOST, strict=True)]
Positive = Annotated[int, Field(gt=0, le=_MOST, strict=True)]
Token = Annotated[int, Field(ge=0, lt=VOCABULARY, strict=True)]


@dataclass(frozen=True)
class Submit:
    """A request arrives with its prompt, and asks for ``answer`` tokens."""

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID

    request: Number
    prompt: Annotated[tuple[Token, ...], Field(min_length=1, max_length=_MOST)]
    answer: Positive
    event: Literal["submit"] = field(default="submit", repr=False)

    @property
    def text(self) -> str:
        """The event in words."""
        tokens = " ".join(map(str, self.prompt[:_MOST_SHOWN])) + " ..." * (len(self.prompt) > _MOST_SHOWN)
        arrives = f"request {self.request} arrives with {counted(len(self.prompt), 'token')}"
        return f"{arrives} ({tokens}), asks for {self.answer}"


@dataclass(frozen=True)
class Step:
    """One batch: waiting requests are admitted, prompts advance by at most ``chunk`` tokens, answers by one.

    A decoding request brings ``drafts`` tokens more, of which the first ``accepted`` are right. ``padding`` rows are
    added to a batch of decodes, as in a captured graph.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID

    chunk: Positive
    drafts: Number = 0
    accepted: Number = 0
    padding: Number = 0
    event: Literal["step"] = field(default="step", repr=False)

    @property
    def text(self) -> str:
        """The event in words."""
        said = f"a batch runs, with chunks of {counted(self.chunk, 'token')}"
        if self.drafts:
            said += f", {counted(self.drafts, 'draft')} of which {self.accepted} are right"
        return said + (f", {counted(self.padding, 'padding row')}" if self.padding else "")


@dataclass(frozen=True)
class Preempt:
    """The request loses its memory, and waits again."""

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID

    request: Number
    event: Literal["preempt"] = field(default="preempt", repr=False)

    @property
    def text(self) -> str:
        """The event in words."""
        return f"request {self.request} is preempted"


@dataclass(frozen=True)
class Abort:
    """The client of the request goes away."""

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID

    request: Number
    event: Literal["abort"] = field(default="abort", repr=False)

    @property
    def text(self) -> str:
        """The event in words."""
        return f"request {self.request} is aborted"


@dataclass(frozen=True)
class Evict:
    """The prefix cache gives up what nobody reads."""

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID

    event: Literal["evict"] = field(default="evict", repr=False)

    @property
    def text(self) -> str:
        """The event in words."""
        return "the prefix cache is evicted"


@dataclass(frozen=True)
class Reorder:
    """The running requests change their order in the batch: the first ``turn`` move to the end."""

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID

    turn: Positive
    event: Literal["reorder"] = field(default="reorder", repr=False)

    @property
    def text(self) -> str:
        """The event in words."""
        return f"the batch is reordered: its first {counted(self.turn, 'request')} to the end"


Event = Submit | Step | Preempt | Abort | Evict | Reorder
"""What can happen."""


def story_lines(events: Sequence[Event]) -> list[str]:
    """Return ``events`` in words, numbered, a line each."""
    return [f"  {number}. {event.text}" for number, event in enumerate(events, 1)]
