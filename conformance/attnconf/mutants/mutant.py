"""Mutant: a backend that is known to be wrong, and the proof that it is."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnconf.clauses import Clause

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.backends.protocol import Backend
    from attnconf.cases.case import Case
    from attnconf.platforms import Platform

UNFILED = "none filed"
"""The bug of a mutant that is not known from a real backend."""


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A known-wrong backend.

    ``id`` names it on the command line, ``summary`` says what it does wrong. ``bug`` is its historical bug, as
    project#number, or ``UNFILED``; ``catalogue`` has the ids of the distilled mutants that it represents. ``clause`` is
    the clause of CONTRACT.md that it breaks, and that must catch it. ``make`` returns the backend for a platform, for
    any harness, and raises ``BackendUnavailableError`` if the changed implementation cannot work. ``proof`` is a case
    on which the backend breaks that clause; ``needs_gpu``: only a GPU can judge the clause.
    """

    id: str
    summary: str
    clause: Clause
    make: Callable[[Platform], Backend]
    proof: Case
    bug: str = UNFILED
    catalogue: tuple[str, ...] = ()
    needs_gpu: bool = False

    def make_named(self, platform: Platform) -> Backend:
        """Return the backend as one that calls itself by ``id``, under which it is registered. Raises as ``make``."""
        return under_name(self.make(platform), self.id)


def under_name(backend: Backend, name: str) -> Backend:
    """Return ``backend`` as one that calls itself ``name``, and is otherwise the same."""
    kind = type(backend)
    renamed = type(kind.__name__, (kind,), {"__slots__": (), "name": property(lambda _: name)})
    twin = copy(backend)
    object.__setattr__(twin, "__class__", renamed)  # a frozen dataclass sets no attribute otherwise
    return twin
