"""The engine that a policy is compared with: what it must answer, and which engines there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from attnconf.canonical import Value
from attnconf.errors import InvalidInputError
from attnconf.json_fields import quote
from attnconf.question import Algorithm, Mask, Positive, Question

if TYPE_CHECKING:
    from collections.abc import Callable


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
    a user may name beside those of the policy; ``sides``: a user may name one for each side. The rest are values of
    ``Question``.
    """

    drafts: tuple[tuple[Algorithm, Positive, Positive], ...]
    others: tuple[str, ...]
    sides: bool = True
    page_sizes: tuple[Positive | None, ...] = (None, 16)
    masks: tuple[Mask, ...] = ("causal",)


class Engine(Protocol):
    """An installed engine."""

    name: str
    version: str
    scope: Scope

    def answer(self, question: Question) -> Answer:
        """Return what the engine does. Raises ``BackendUnavailableError`` for a question that it cannot be asked."""
        ...


def _sglang() -> Engine:
    from attnconf.engines.sglang import SGLang

    return SGLang()


def _vllm() -> Engine:
    from attnconf.engines.vllm import VLLM

    return VLLM()


ENGINES: dict[str, Callable[[], Engine]] = {"sglang": _sglang, "vllm": _vllm}


def installed_engine(name: str) -> Engine:
    """Load an engine. Raises ``InvalidInputError`` for an unknown, ``BackendUnavailableError`` for an absent one."""
    if name not in ENGINES:
        option = "--engine"
        raise InvalidInputError(option, given=quote(name), allowed=" or ".join(ENGINES))
    return ENGINES[name]()
