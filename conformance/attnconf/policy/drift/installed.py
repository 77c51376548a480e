"""The engines that can be compared, and how each is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.errors import InvalidInputError
from attnconf.fields import quote

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.policy.drift.engine import Engine


def _sglang() -> Engine:
    from attnconf.policy.drift.sglang import SGLang

    return SGLang()


def _vllm() -> Engine:
    from attnconf.policy.drift.vllm import VLLM

    return VLLM()


ENGINES: dict[str, Callable[[], Engine]] = {"sglang": _sglang, "vllm": _vllm}


def installed_engine(name: str) -> Engine:
    """Load an engine. Raises ``InvalidInputError`` if it is unknown, ``BackendUnavailableError`` if it is absent."""
    if name not in ENGINES:
        raise InvalidInputError("--engine", given=quote(name), allowed=" or ".join(ENGINES))
    return ENGINES[name]()
