"""ServingMutant: our own manager or scheduler with a changed expression, and the hunt for its shortest story."""

from __future__ import annotations

import importlib
import inspect
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Literal

from attnconf.mutants.source import StaleEditError
from attnconf.serving.machine import play
from attnconf.serving.managers.own import OwnManager
from attnconf.serving.scheduler import Scheduler
from attnconf.serving.violation import Violation
from attnconf.values import digest

if TYPE_CHECKING:
    from attnconf.clauses import Clause

Edited = Literal["managers.pages", "managers.own", "scheduler"]
_ROOM = "attnconf.serving"


@dataclass(frozen=True)
class ServingMutant:
    """In ``module`` of the serving room each of ``edits``, an old and a new text, is made; ``clause`` must notice.

    ``summary`` says what the fault is.
    """

    name: str
    summary: str
    clause: Clause
    module: Edited
    edits: tuple[tuple[str, str], ...]

    @property
    def manager(self) -> type[OwnManager]:
        """The manager, with the fault if it is one of a manager."""
        if self.module == "scheduler":
            return OwnManager
        edited = self._edited()
        if self.module == "managers.own":
            found: type[OwnManager] = edited.OwnManager
            return found
        found = _copy("managers.own", ()).OwnManager
        vars(sys.modules[found.__module__])["Pages"] = edited.Pages
        return found

    @property
    def scheduler(self) -> type[Scheduler]:
        """The scheduler, with the fault if it is one of a scheduler."""
        if self.module != "scheduler":
            return Scheduler
        found: type[Scheduler] = self._edited().Scheduler
        return found

    def _edited(self) -> ModuleType:
        return _copy(self.module, self.edits)


def hunt(mutant: ServingMutant, *, stories: int, start: int = 0) -> Violation | None:
    """Return the shortest story that was found in which ``mutant`` breaks a clause, or None after ``stories``."""
    try:
        play(mutant.manager, scheduler=mutant.scheduler, stories=stories, start=start)
    except Violation as caught:
        return caught
    return None


def _copy(name: Edited, edits: tuple[tuple[str, str], ...]) -> ModuleType:
    """Return a copy of a module of the serving room with ``edits``.

    Raises ``StaleEditError`` for one that does not fit.
    """
    text = inspect.getsource(importlib.import_module(f"{_ROOM}.{name}"))
    for old, new in edits:
        if text.count(old) != 1:
            raise StaleEditError(f"{_ROOM}.{name} has {old!r} {text.count(old)} times; the edit was written for one")
        text = text.replace(old, new)
    made = ModuleType(f"attnconf_serving_mutant_{name.replace('.', '_')}_{digest([name, edits])[:16]}")
    sys.modules[made.__name__] = made  # dataclasses look their module up
    exec(compile(text, f"<{made.__name__}>", "exec"), vars(made))  # noqa: S102 - our own source, with a change
    return made
