"""The managers by name. An engine's is imported when it is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from attnconf.errors import BackendUnavailableError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.serving.managers.protocol import Manager

_ROOM = "attnconf.serving.managers"
MANAGERS = {
    "own": ("own", "OwnManager"),
    "sglang": ("sglang", "SglangManager"),
    "sglang-swa": ("sglang", "sliding"),
    "sglang-token": ("sglang", "by_token"),
    "transformers": ("transformers", "TransformersManager"),
    "vllm": ("vllm", "VllmManager"),
}
"""Module and factory of each manager."""

DRAFTLESS = frozenset({"sglang", "sglang-swa", "sglang-token", "transformers"})
"""Managers that are played without drafts; the docstring of each module says why."""


def manager_named(name: str) -> Callable[[], Manager]:
    """Return the factory of the manager ``name``.

    Raises ``InvalidInputError`` for a name that is none, and ``BackendUnavailableError`` without the engine.
    """
    if name not in MANAGERS:
        raise InvalidInputError("--memory", given=name, allowed=", ".join(MANAGERS))
    module, factory = MANAGERS[name]
    try:
        found: Callable[[], Manager] = getattr(importlib.import_module(f"{_ROOM}.{module}"), factory)
        found()
    except ImportError as error:
        raise BackendUnavailableError(f"the memory {name} needs its engine: {error}") from error
    return found
