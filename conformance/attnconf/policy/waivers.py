"""Waivers: cells that need no proof for a while."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Self

from pydantic import Field, model_validator

from attnconf.policy.requirements import Name, RequiredCell, Selection, Sentence

Issue = Annotated[str, Field(max_length=300, pattern=r"^(https://\S+/\d+|[\w.-]+/[\w.-]+#\d+)$")]
"""The issue behind a waiver: ``owner/repository#123``, or an address that ends in a number."""


class Waiver(Selection):
    """Required cells that need no proof up to and including the date ``expires``.

    ``issue``, ``owner`` and ``expires`` are mandatory. In a strict policy the run fails if a waived cell is proven, if
    a waiver has expired, or if it selects no required cell.
    """

    backends: tuple[Name, ...] = ()
    issue: Issue
    owner: Sentence
    expires: dt.date
    reason: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.backends or self.models or self.layer_kinds or self.modes or self.dtypes):
            raise ValueError("a waiver of some backends, models, layer_kinds, modes or dtypes, not of everything")
        return self

    def has(self, cell: RequiredCell) -> bool:
        """Return whether it waives ``cell``."""
        return super().has(cell) and (not self.backends or cell.backend in self.backends)

    def is_expired(self, today: dt.date) -> bool:
        """Return whether its last day has passed."""
        return today > self.expires

    @property
    def text(self) -> str:
        """The waiver in words."""
        return f"the waiver of {self.issue} ({self.owner}, until {self.expires})"
