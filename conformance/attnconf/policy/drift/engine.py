"""The engine that a policy is compared with: what it must answer, and which engines there are."""

from __future__ import annotations

from typing import Protocol

from pydantic import Field

from attnconf.policy.question import Algorithm, Positive, Question
from attnconf.values import Value


class Answer(Value):
    """What an engine chooses: both backends, or the ``refusal`` in its own words."""

    prefill: str = ""
    decode: str = ""
    refusal: str = ""

    @property
    def text(self) -> str:
        """The answer in words."""
        if self.refusal:
            return "refused"
        return self.prefill if self.prefill == self.decode else f"{self.prefill} (prefill) and {self.decode} (decode)"


class Scope(Value):
    """What an engine is asked about, beside architectures, platforms and KV dtypes.

    ``drafts`` are its kinds of speculative decoding, each as (algorithm, query tokens, width); ``others`` backends that
    a user may name beside those of the policy; ``sides``: a user may name one for each side. ``settings`` lists for
    other fields of ``Question`` the values that matter to it; a field that it leaves out keeps its default.
    """

    drafts: tuple[tuple[Algorithm, Positive, Positive], ...]
    others: tuple[str, ...]
    sides: bool = True
    settings: dict[str, tuple[int | str | None, ...]] = Field(default_factory=dict)


class Engine(Protocol):
    """An installed engine."""

    name: str
    version: str
    scope: Scope

    def answer(self, question: Question) -> Answer:
        """Return what the engine does. Raises ``BackendUnavailableError`` for a question that it cannot be asked."""
        ...
