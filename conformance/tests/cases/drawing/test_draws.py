"""Draws: the first cases of a campaign bring the traits together that bugs hang on, and the agenda asks them first."""

from __future__ import annotations

import pytest

from attnconf.cases.case import Case, Layer
from attnconf.cases.drawing.draws import Draws, by_variety
from attnconf.cases.drawing.families import FAMILIES
from attnconf.cases.drawing.profiles import profile_named
from attnconf.cases.drawing.space import MODES, Space
from attnconf.cases.drawing.strategies import free_layers
from attnconf.cases.drawing.traits import cost, pairs
from attnconf.cases.dtypes import Dtypes
from attnconf.platforms import Platform
from attnconf.running.agenda import agenda
from attnconf.running.session import Session

FREE = Space(name="free", layers=free_layers())
SESSION = Session(platform=Platform(), profile=profile_named("smoke"))


def drawn(count: int, seed: int = 0) -> list[Case]:
    return list(Draws(FREE, seed, count).cases)


def met(cases: list[Case]) -> int:
    bits = 0
    for case in cases:
        bits |= pairs(case)
    return bits.bit_count()


def asked(case: Case) -> set[tuple[str, object]]:
    """Return what a reader would ask of the first cases, in words of the contract and not of ``traits``."""
    return {
        trait
        for layer in case.layers
        for request in case.requests
        if request.new_tokens
        for trait in (
            ("mode", case.mode),
            ("prefix", request.prefix_len > 0),
            ("group", min(layer.group_size, 17)),
            ("heads and group", layer.num_kv_heads > 1 and layer.group_size > 1),
            ("wide", layer.head_dim > 128),
            ("fp8", case.kv_dtype == "float8_e4m3fn"),
            ("page", case.paging.page_size),
            ("window", layer.window_left >= 0),
            ("cap", layer.logits_soft_cap is not None),
            ("sinks", layer.sinks),
            ("layout", case.paging.layout),
            ("hybrid", case.paging.hybrid),
            ("redirected", layer.kv_owner is not None),
        )
    }


@pytest.mark.parametrize("seed", range(5))
def test_twenty_cases_ask_each_mode_for_each_feature(seed: int) -> None:
    seen = set()
    for case in drawn(20, seed):
        traits = asked(case)
        seen |= {(mode, trait) for mode in MODES for trait in traits if ("mode", mode) in traits}
    features = ("cap", "sinks", "window", "fp8", "heads and group", "wide", "hybrid")
    lacking = [(mode, name) for name in features for mode in MODES if (mode, (name, True)) not in seen]
    assert len(lacking) <= 6, lacking  # of 28
    assert all((mode, ("prefix", False)) in seen for mode in ("extend", "mixed"))
    groups = {size for _, (name, size) in seen if name == "group"}
    assert groups & {3, 5, 6, 7}
    assert len(groups) >= 6


@pytest.mark.parametrize("seed", range(3))
def test_the_first_cases_bring_more_together_than_chance_does_for_what_they_cost(seed: int) -> None:
    chance = drawn(400, seed)[200:]  # behind the picked ones
    picked = drawn(20, seed)
    assert met(picked) > sorted(met(chance[start : start + 20]) for start in range(0, 200, 20))[7]
    assert sum(map(cost, picked)) < 0.7 * sum(map(cost, chance)) / 10


def test_a_seed_draws_the_same_cases_each_once_and_another_one_others() -> None:
    ids = [case.id for case in drawn(60)]
    assert len(set(ids)) == len(ids) == 60
    assert ids == [case.id for case in drawn(60)]
    assert set(ids).isdisjoint(case.id for case in drawn(60, seed=1))


def test_a_space_of_few_cases_gives_each_of_them_once() -> None:
    few = Space(
        name="few",
        layers=lambda _choices: (Layer(kind="full", num_qo_heads=1, num_kv_heads=1, head_dim=16, sm_scale=1.0),),
        modes=("decode",),
        dtypes=(Dtypes("float32", "float32", "float32"),),
        page_sizes=(1,),
        max_requests=1,
        max_kv_len=1,
    )
    cases = Draws(few, 0, 60).cases
    assert len({case.id for case in cases}) == len(cases) == 60


def test_shrinking_starts_at_the_failing_case_and_ends_at_the_simplest_one() -> None:
    draws = Draws(FREE, 0, 30)
    failing = next(case for case in reversed(draws.cases) if len(case.requests) > 1 and len(case.layers) > 1)
    descent = draws.shrink(draws.candidate(failing), lambda case: len(case.requests) > 1)
    assert descent[0].case == failing
    assert all(len(one.case.requests) > 1 for one in descent)
    assert (len(descent[-1].case.requests), len(descent[-1].case.layers)) == (2, 1)


def test_by_variety_every_case_comes_once_and_what_is_new_and_cheap_comes_first() -> None:
    cases = drawn(80)
    order = by_variety(cases)
    assert sorted(order) == list(range(80))
    assert order == by_variety(cases)
    first = [cases[index] for index in order[:20]]
    assert met(first) > met(cases[60:])
    assert sum(map(cost, first)) < sum(map(cost, cases)) / 4
    again = by_variety([cases[0]] * 3)
    assert sorted(again) == [0, 1, 2]


def test_the_agenda_has_every_case_and_probe_of_the_profile_once() -> None:
    found = agenda(SESSION)
    ids = [one.case.id for one in found]
    suite = [
        case.id
        for family in FAMILIES
        for model in SESSION.profile.targets(family)
        for case in SESSION.drawn.cases(family, model)
    ]
    assert sorted(ids) == sorted([*suite, *(case.id for case in SESSION.drawn.refusals.cases)])
    assert sum(one.family is None for one in found[:18]) == 3
    first = found[:30]
    assert {one.case.mode for one in first} == set(MODES)
    assert any(one.model != "free" for one in first if one.family is not None)
