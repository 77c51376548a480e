"""Waivers and claims: what a policy lets pass for a while, and what it asserts without proof."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Self

from pydantic import Field, model_validator

from attnconf.policy.requirements import Name, RequiredCell, Selection, Sentence
from attnconf.values import Value

Issue = Annotated[str, Field(max_length=300, pattern=r"^(https://\S+/\d+|[\w.-]+/[\w.-]+#\d+)$")]
"""Where it is worked on: ``owner/repository#123``, or an address that ends in a number."""

Percent = Annotated[float, Field(ge=-100, le=10**6, allow_inf_nan=False)]


class Waiver(Selection):
    """Required cells that need no proof until ``expires``, a date that still counts; after it they do again.

    ``issue``, ``owner`` and ``expires`` are mandatory. In a strict policy a waived cell that is proven, a waiver that
    has expired, and one that selects no required cell each fail the run.
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
        """Whether it waives ``cell``."""
        return super().has(cell) and (not self.backends or cell.backend in self.backends)

    def is_expired(self, today: dt.date) -> bool:
        """Whether its last day has passed."""
        return today > self.expires

    @property
    def text(self) -> str:
        """The waiver in words."""
        return f"the waiver of {self.issue} ({self.owner}, until {self.expires})"


class Claim(Value):
    """A gain that the change of a default asserts: ``metric`` of the rule's backend over ``baseline``, in percent.

    Nothing here measures speed, so a claim is shown and never counts as met.
    """

    rule: Name
    metric: Sentence
    at_least: Percent
    at_most: Percent | None = None
    baseline: Name
    source: Sentence

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.at_most is not None and self.at_most < self.at_least:
            raise ValueError(f"at_most from at_least = {self.at_least:g} on, not {self.at_most:g}")
        return self

    @property
    def sentence(self) -> str:
        """Say what is claimed, and that nobody has measured it here."""
        gain = f"{self.at_least:g} %" if self.at_most is None else f"{self.at_least:g} to {self.at_most:g} %"
        bound = " or more" if self.at_most is None else ""
        return (
            f"claimed, not measured here: rule {self.rule} gains {gain}{bound} in {self.metric} over {self.baseline}"
            f" ({self.source})"
        )
