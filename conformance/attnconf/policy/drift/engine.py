"""Engine: the interface of an installed engine that is compared with a policy."""

from __future__ import annotations

from typing import Protocol

from pydantic import Field

from attnconf.policy.question import Algorithm, Positive, Question
from attnconf.values import Value


class Answer(Value):
    """An engine's choice: both backends, or the ``refusal`` in its own words."""

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
    """The range of questions for an engine, besides architectures, platforms and KV dtypes.

    ``drafts`` are its kinds of speculative decoding, each as (algorithm, query tokens, width). ``others`` are backends
    that a user may name besides those of the policy. ``sides``: a user may name a backend for each side. ``settings``
    lists the values of other fields of ``Question`` that matter to the engine; all other fields keep their defaults.
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
        """Return the engine's choice. Raises ``BackendUnavailableError`` for a question that it cannot answer."""
        ...
