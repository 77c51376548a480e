"""The strategies draw cases that expose what their features claim: the share of them that does, feature by feature."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from attnconf.cases.case import Case
from attnconf.cases.drawing.drawn import DrawnCases
from attnconf.cases.drawing.families import Family
from attnconf.cases.drawing.profiles import profile_named
from attnconf.judging.effects import CLAIMED, effective_features, mistake_units
from attnconf.judging.posed import PosedCase
from attnconf.numerics import NumericsProfile

MODEL = "gemma4-e2b"
FEATURE_OF = {mistake.name: mistake.feature for mistake in CLAIMED}
OWED = 0.9
"""The least share of drawn layers in which a claimed feature is effective: a few contexts hold only two keys."""


def shares(family: Family, model: str, seeds: range) -> tuple[Counter[str], Counter[str]]:
    """Return in how many drawn layers each feature is claimed, and in how many it is effective."""
    claimed: Counter[str] = Counter()
    effective: Counter[str] = Counter()

    def count(case: Case) -> None:
        posed = PosedCase(case, torch.device("cpu"))
        profile = NumericsProfile(p=case.q_dtype)
        for layer in range(len(case.layers)):
            requests = range(len(case.requests))
            pairs = [(posed.scene(layer, r), posed.answer(layer, r, profile)) for r in requests]
            units = mistake_units(pairs)
            claimed.update({FEATURE_OF[name] for name in units})
            effective.update(effective_features(units))

    for seed in seeds:
        for case in DrawnCases(profile_named("smoke"), seed, accelerated=False).cases(family, model):
            count(case)
    return claimed, effective


@pytest.mark.parametrize("family", ["decode", "extend", "mixed", "verify", "windows", "shared_kv", "hybrid_pools"])
def test_a_drawn_case_of_a_model_exposes_what_its_features_claim(family: Family) -> None:
    claimed, effective = shares(family, MODEL, range(3))
    assert {"paging", "window"} <= set(claimed)
    hidden = {name: f"{effective[name]} of {count}" for name, count in claimed.items() if effective[name] < count}
    assert all(effective[name] >= OWED * claimed[name] for name in hidden), hidden


def test_a_drawn_case_of_any_geometry_does_so_too() -> None:
    claimed, effective = shares("free", "free", range(2))
    assert {"soft_cap", "sinks", "gqa", "layout", "window", "shared_kv", "hybrid", "shared_prefix"} <= set(claimed)
    assert {"k_scale", "v_scale", "host_hints", "table_tail"} <= set(claimed)
    hidden = {name: f"{effective[name]} of {count}" for name, count in claimed.items() if effective[name] < count}
    assert all(effective[name] >= OWED * claimed[name] for name in hidden), hidden
