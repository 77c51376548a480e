"""Switch: capture is on in a process where an environment variable names a folder, or where code asks for it."""

from __future__ import annotations

import atexit
import importlib
import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.capture.gathering import Budget, Gathering
from attnconf.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VARIABLE = "ATTNCONF_CAPTURE"
"""JSON of the folder, the budget and the model, as ``attnconf capture`` sets it."""

ENGINES = ("sglang", "transformers", "vllm")


def variable(folder: Path, budget: Budget, model: str) -> str:
    """Return the value of the variable."""
    return json.dumps({"folder": str(folder), "every": budget.every, "most": budget.most, "model": model})


def asked() -> Gathering | None:
    """Return what the variable asks for in this process, None where it is not set.

    Raises ``InvalidInputError`` for a value that ``attnconf capture`` would not set.
    """
    text = os.environ.get(VARIABLE, "")
    if not text:
        return None
    try:
        data = json.loads(text)
        budget = Budget(int(data["every"]), int(data["most"]))
        return Gathering(Path(data["folder"]), budget, str(data["model"]))
    except (ValueError, TypeError, KeyError):
        raise InvalidInputError(VARIABLE, given=repr(text), allowed="what attnconf capture sets") from None


def start(engine: str, gathering: Gathering) -> Callable[[], None]:
    """Patch the layer calls of ``engine`` so that ``gathering`` sees them; return what takes the patches away.

    Raises ``InvalidInputError`` for an engine that is none.
    """
    if engine not in ENGINES:
        raise InvalidInputError("engine", given=repr(engine), allowed=", ".join(ENGINES))
    gathering.folder.mkdir(parents=True, exist_ok=True)
    hook = importlib.import_module(f"attnconf.capture.engines.{engine}")
    undo: Callable[[], None] = hook.install(gathering)
    return undo


def start_if_asked(engine: str) -> None:
    """Capture in this process to its end, if the variable is set; else nothing is imported or patched."""
    gathering = asked()
    if gathering is not None:
        start(engine, gathering)
        atexit.register(gathering.close)


@contextmanager
def capturing(
    engine: str, folder: Path, *, every: int = 1, most: int = 200, model: str = "free"
) -> Iterator[Gathering]:
    """Capture inside the block: one step of ``every``, and at most so many cases of ``model``.

    Raises ``ImportError`` without the engine.
    """
    gathering = Gathering(folder, Budget(every, most), model)
    undo = start(engine, gathering)
    try:
        yield gathering
    finally:
        undo()
        gathering.close()
