"""Events: what happens to a scheduler, as values that tell themselves in words."""

from __future__ import annotations

from dataclasses import dataclass

from attnconf.wording import counted


@dataclass(frozen=True)
class Submit:
    """A request arrives with its prompt, and asks for ``answer`` tokens."""

    request: int
    prompt: tuple[int, ...]
    answer: int

    @property
    def text(self) -> str:
        """The event in words."""
        tokens = " ".join(map(str, self.prompt))
        arrives = f"request {self.request} arrives with {counted(len(self.prompt), 'token')}"
        return f"{arrives} ({tokens}), asks for {self.answer}"


@dataclass(frozen=True)
class Step:
    """One batch: waiting requests are admitted, prompts advance by at most ``chunk`` tokens, answers by one.

    A decoding request brings ``drafts`` tokens more, of which the first ``accepted`` are right. ``padding`` rows are
    added to a batch of decodes, as in a captured graph.
    """

    chunk: int
    drafts: int = 0
    accepted: int = 0
    padding: int = 0

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

    request: int

    @property
    def text(self) -> str:
        """The event in words."""
        return f"request {self.request} is preempted"


@dataclass(frozen=True)
class Abort:
    """The client of the request goes away."""

    request: int

    @property
    def text(self) -> str:
        """The event in words."""
        return f"request {self.request} is aborted"


@dataclass(frozen=True)
class Evict:
    """The prefix cache gives up what nobody reads."""

    @property
    def text(self) -> str:
        """The event in words."""
        return "the prefix cache is evicted"


@dataclass(frozen=True)
class Reorder:
    """The running requests change their order in the batch: the first ``turn`` move to the end."""

    turn: int

    @property
    def text(self) -> str:
        """The event in words."""
        return f"the batch is reordered: its first {counted(self.turn, 'request')} to the end"


Event = Submit | Step | Preempt | Abort | Evict | Reorder
