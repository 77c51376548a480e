"""The strategies draw cases that expose what their features claim: the share of them that does, feature by feature."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from attnconf.cases.case import Case
from attnconf.cases.drawing.drawn import DrawnCases
from attnconf.cases.drawing.families import Family
from attnconf.cases.drawing.profiles import profile_named
from attnconf.cases.dtypes import FP8
from attnconf.judging.effects import effective_features, mistake_units
from attnconf.judging.posed import PosedCase
from attnconf.judging.search import CLAIMED
from attnconf.precision import usual_profile

MODEL = "gemma4-e2b"
FEATURE_OF = {mistake.name: mistake.feature for mistake in CLAIMED}
OWED = 0.9
"""The least share of drawn layers in which a claimed feature is effective: a few contexts hold only two keys."""

OWED_IN_8_BITS = 0.7
"""The same for 8-bit queries and answers: P, or the answer, has 4 significant bits then, so the bound is wide."""

TREES = 8
"""The least number of drawn layers of verify steps in which drafts are a tree, of six seeds."""

FAINT = ("sm_scale", "sinks", "soft_cap")
"""Their mildest mistakes, a factor of log(2), move half of a row's weight, which 8 bits hide in every second layer."""


def shares(family: Family, model: str, seeds: range, *, narrow: bool) -> tuple[Counter[str], Counter[str]]:
    """Return in how many drawn layers each feature is claimed, and in how many it is effective, of 8-bit queries or
    answers if ``narrow``, else of others.
    """
    claimed: Counter[str] = Counter()
    effective: Counter[str] = Counter()

    def count(case: Case) -> None:
        posed = PosedCase(case, torch.device("cpu"))
        profile = usual_profile(case.q_dtype)
        for layer in range(len(case.layers)):
            requests = range(len(case.requests))
            pairs = [(posed.scene(layer, r), posed.answer(layer, r, profile)) for r in requests]
            units = mistake_units(pairs)
            claimed.update({FEATURE_OF[name] for name in units})
            effective.update(effective_features(units))

    for seed in seeds:
        for case in DrawnCases(profile_named("smoke"), seed, accelerated=False).cases(family, model):
            if (FP8 in {case.q_dtype, case.answer_dtype}) is narrow:
                count(case)
    return claimed, effective


def owe(claimed: Counter[str], effective: Counter[str], owed: float) -> None:
    """Fail where a claimed feature is effective in a smaller share of layers than ``owed``."""
    hidden = {name: f"{effective[name]} of {count}" for name, count in claimed.items() if effective[name] < count}
    assert all(effective[name] >= owed * claimed[name] for name in hidden), hidden


def test_a_drawn_tree_shows_what_it_claims() -> None:
    claimed, effective = shares("verify", MODEL, range(6), narrow=False)
    assert claimed["tree"] >= TREES
    assert effective["tree"] >= OWED * claimed["tree"]


@pytest.mark.parametrize("family", ["decode", "extend", "mixed", "verify", "windows", "shared_kv", "hybrid_pools"])
def test_a_drawn_case_of_a_model_exposes_what_its_features_claim(family: Family) -> None:
    claimed, effective = shares(family, MODEL, range(3), narrow=False)
    assert {"paging", "window"} <= set(claimed)
    owe(claimed, effective, OWED)


def test_a_drawn_case_of_any_geometry_does_so_too() -> None:
    claimed, effective = shares("free", "free", range(2), narrow=False)
    assert {"soft_cap", "sinks", "gqa", "layout", "window", "shared_kv", "hybrid", "shared_prefix"} <= set(claimed)
    assert {"k_scale", "v_scale", "host_hints", "table_tail", "head_dim_v", "bidirectional"} <= set(claimed)
    assert {"kv_format", "block_scales", "head_scales"} <= set(claimed)
    owe(claimed, effective, OWED)


@pytest.mark.parametrize(
    ("family", "model", "seeds"), [("extend", MODEL, 8), ("decode", MODEL, 8), ("free", "free", 4)]
)
def test_a_drawn_case_of_8_bit_queries_does_so_too(family: Family, model: str, seeds: int) -> None:
    claimed, effective = shares(family, model, range(seeds), narrow=True)
    assert {"window", "k_scale", "v_scale", "q_scale", "out_scale"} <= set(claimed)
    for name in FAINT:
        del claimed[name]
    owe(claimed, effective, OWED_IN_8_BITS)
