"""The engine that a policy is compared with: what it must answer, and which engines there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from attnconf.canonical import Value
from attnconf.errors import InvalidInputError
from attnconf.json_fields import quote

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.question import Question


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


class Engine(Protocol):
    """An installed engine. ``algorithms`` are the names of speculative decoding that it knows and that are asked."""

    name: str
    version: str
    algorithms: tuple[str, ...]

    def answer(self, question: Question) -> Answer:
        """Return what the engine does. Raises ``BackendUnavailableError`` for a question that it cannot be asked."""
        ...


def _sglang() -> Engine:
    from attnconf.engines.sglang import SGLang

    return SGLang()


ENGINES: dict[str, Callable[[], Engine]] = {"sglang": _sglang}


def installed_engine(name: str) -> Engine:
    """Load an engine. Raises ``InvalidInputError`` for an unknown, ``BackendUnavailableError`` for an absent one."""
    if name not in ENGINES:
        option = "--engine"
        raise InvalidInputError(option, given=quote(name), allowed=" or ".join(ENGINES))
    return ENGINES[name]()
