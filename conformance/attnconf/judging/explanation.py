"""Explanation: what is suspected of a wrong answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnconf.clauses import Clause
from attnconf.judging.result import Place

if TYPE_CHECKING:
    from attnconf.judging.mistakes import Mistake

UNEXPLAINED_CLAUSE = Clause.SCORES
"""The clause of a wrong answer that nothing explains."""

DEAD_SLOT = "a dead slot was read"
"""The diagnosis of an answer that has what no live token owns."""


@dataclass(frozen=True)
class Explanation:
    """The suspected clause, keys and kind of bug, and the place in memory of the key.

    ``exact`` says that it gives the wrong numbers within rounding, ``diagnosis`` is the kind of bug in the same words
    for every case, ``mistakes`` are the names of the known ones that give those numbers, which are ``found``. A run of
    keys has its wrong ``end`` at a key that is ``moved`` from the right one. ``otherwise`` is the explanation without
    known mistakes.
    """

    clause: Clause
    keys: str = ""
    suspicion: str = ""
    mistakes: tuple[str, ...] = ()
    found: tuple[Mistake, ...] = ()
    page: int | None = None
    slot: int | None = None
    exact: bool = False
    diagnosis: str = ""
    end: int = 0
    moved: int = 0
    otherwise: Explanation | None = None

    def place(self, layer: int, request: int, token: int, head: int, dim: int) -> Place:
        """Return the place of a wrong element together with that key's page and slot."""
        return Place(layer=layer, request=request, token=token, head=head, dim=dim, page=self.page, slot=self.slot)
