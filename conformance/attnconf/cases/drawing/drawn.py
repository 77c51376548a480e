"""Drawn cases: what a profile draws of a family and a model with one seed, the same for every backend."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from attnconf.cases.drawing.draws import Draws
from attnconf.cases.drawing.extremes import deck
from attnconf.cases.drawing.families import FAMILIES, geometry_for, space_of
from attnconf.cases.drawing.layers import free_layers
from attnconf.cases.drawing.serving import loads
from attnconf.cases.drawing.space import Space
from attnconf.cases.models import FREE_MODEL, load_model
from attnconf.values import digest

if TYPE_CHECKING:
    from attnconf.cases.case import Case
    from attnconf.cases.drawing.families import Family
    from attnconf.cases.drawing.profiles import Profile

REFUSAL_EXAMPLES = 20
"""How many cases are drawn to find shapes that a backend declares unsupported."""

_REFUSALS = Space(name="refusal", layers=free_layers(), max_kv_len=64)


@dataclass(frozen=True)
class DrawnCases:
    """The cases of ``profile`` for one ``seed``, on a GPU if ``accelerated``: each family and model is drawn once."""

    profile: Profile
    seed: int
    accelerated: bool
    _draws: dict[tuple[Family, str], tuple[Draws, ...]] = field(default_factory=dict, init=False, repr=False)

    def draws(self, family: Family, model: str) -> tuple[Draws, ...]:
        """Return the draws of ``family`` for ``model``: short cases, then serving loads and long ones, if any.

        Raises ``InvalidInputError`` for an unknown family or model.
        """
        if (family, model) not in self._draws:
            count = self.profile.count(family, model, accelerated=self.accelerated)
            long_count = self.profile.long_count(family, accelerated=self.accelerated)
            short = self._made(family, model, count)
            long = [self._made(family, model, long_count, long_kv_len=self.profile.long_kv_len)] if long_count else []
            self._draws[family, model] = (short, *self._served(family, model), *long)
        return self._draws[family, model]

    def cases(self, family: Family, model: str) -> tuple[Case, ...]:
        """Return the cases of ``family`` for ``model``, short and long, in the order in which they are asked."""
        return tuple(case for draws in self.draws(family, model) for case in draws.cases)

    def large_cases(self, family: Family, model: str) -> tuple[Case, ...]:
        """Return those among ``cases`` that are long or of a serving load."""
        return tuple(case for draws in self.draws(family, model) if draws.is_large for case in draws.cases)

    @cached_property
    def refusals(self) -> Draws:
        """Small cases of any shape, to find those that a backend declares unsupported."""
        return Draws(_REFUSALS, self.seed, REFUSAL_EXAMPLES)

    @cached_property
    def digest(self) -> str | None:
        """The SHA-256 of the ids of all cases that the profile draws, in order: as long as it is the same, so are they.

        None where nothing is to be compared: the profile draws no case, or other ones every time.
        """
        if not (self.profile.derandomised and self.profile.examples):
            return None
        drawn = {
            f"{family} of {model}": [case.id for case in self.cases(family, model)]
            for family in FAMILIES
            for model in self.profile.targets(family)
        }
        return digest({**drawn, "refusals": [case.id for case in self.refusals.cases]})

    def _served(self, family: Family, model: str) -> tuple[Draws, ...]:
        """Return the draws of the serving loads, if there are any."""
        if not self.profile.serving or model == FREE_MODEL:
            return ()
        layers = geometry_for(load_model(model), accelerated=self.accelerated).layers
        steps = loads(family, layers, accelerated=self.accelerated, few=self.profile.few_builds)
        if not steps:
            return ()
        one = self._made(family, model, len(steps))
        seed = zlib.crc32(f"{self.seed}/{family}/{model}/serving".encode())
        return (Draws(replace(one.space, deck=steps), seed, len(steps)),)

    def _made(self, family: Family, model: str, count: int, *, long_kv_len: int = 0) -> Draws:
        name = f"{self.seed}/{family}/{model}{'/long' if long_kv_len else ''}"
        space = space_of(
            family,
            model,
            accelerated=self.accelerated,
            max_kv_len=self.profile.max_kv_len,
            long_kv_len=long_kv_len,
            few_builds=self.profile.few_builds,
            kv_dtype=self.profile.kv_dtype,
        )
        space = replace(space, head_scales=self.profile.head_scales)
        if space.extremes and not long_kv_len:
            far = self.profile.far
            cards = deck(self.profile.cards, self.seed, built=self.accelerated, far=far)
            space = replace(space, deck=cards, far=far)
        return Draws(space, zlib.crc32(name.encode()), count)
