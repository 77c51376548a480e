"""Features: one closed list, in policies and vectors as in the catalogue of mistakes."""

from __future__ import annotations

from typing import get_args

from attnconf.cases.drawing.families import FAMILIES
from attnconf.cases.features import Feature
from attnconf.gate.coverage import required_features
from attnconf.judging.mistakes import MISTAKES

FEATURES = get_args(Feature)


def test_they_are_what_the_mistakes_claim() -> None:
    assert sorted(FEATURES) == sorted({mistake.feature for mistake in MISTAKES if mistake.claimed})


def test_a_family_owes_no_other() -> None:
    assert {feature for family in FAMILIES for feature in required_features(family)} <= set(FEATURES)
