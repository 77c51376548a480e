"""The smallest failure still tells what the first one told: no other mistake, and no more of them."""

from __future__ import annotations

from functools import partial

import pytest

from attnconf.cases.case import Case
from attnconf.cases.drawing.draws import Draws
from attnconf.cases.drawing.layers import free_layers
from attnconf.cases.drawing.profiles import profile_named
from attnconf.cases.drawing.space import Space
from attnconf.judging.result import CaseResult, Failure, LayerResult, Outcome
from attnconf.mutants.registry import mutant_named
from attnconf.platforms import Platform
from attnconf.running.explore import explore
from attnconf.running.session import Session

SMALL = Space(name="small", layers=free_layers(), max_kv_len=100, past_window=False)


def wrong(case: Case, *mistakes: str, clause: int = 2) -> CaseResult:
    failure = Failure(clause=clause, check="numerics", summary="planted", layer=0, mistakes=mistakes)
    layer = LayerResult(layer=0, outcome=Outcome.FAILED, failures=(failure,))
    return CaseResult(case=case, backend="planted", evidence="kernel", layers=(layer,))


def told(case: Case) -> CaseResult:
    """Fail always: below 20 keys two mistakes explain it, from there on one, and from 90 on none."""
    if case.max_kv_len >= 90:
        return wrong(case, clause=3)
    return wrong(case, "off", "one more") if case.max_kv_len < 20 else wrong(case, "one more")


@pytest.mark.parametrize(("keys", "smallest"), [(range(1, 20), 1), (range(20, 90), 20), (range(90, 101), 20)])
def test_the_smallest_case_tells_as_much_as_the_first(keys: range, smallest: int) -> None:
    found = explore(
        [draws for seed in range(80) if (draws := Draws(SMALL, seed, 1)).cases[0].max_kv_len in keys],
        wrong,
        explain=told,
    )
    assert found.failure is not None
    assert found.failure.case.max_kv_len == smallest
    assert found.failure.failures == told(found.failure.case).failures
    assert len(found.failure.case.requests) == len(found.failure.case.layers) == 1


def test_the_cases_of_the_search_are_explained_only_where_they_fail() -> None:
    explained: list[Case] = []

    def explain(case: Case) -> CaseResult:
        explained.append(case)
        return told(case)

    def sinks(case: Case) -> CaseResult:
        outcome = wrong(case)
        right = LayerResult(layer=0, outcome=Outcome.PASSED)
        return (
            outcome if case.layers[0].sinks else CaseResult(case=case, backend="p", evidence="kernel", layers=(right,))
        )

    found = explore([Draws(SMALL, 0, 200)], sinks, explain=explain)
    assert found.failure is not None
    assert all(case.layers[0].sinks for case in explained)
    assert len({case.id for case in explained}) == len(explained)


@pytest.mark.parametrize(
    ("name", "seed", "mistake"),
    [
        ("window-one-more", 0, "window one more"),
        ("window-one-more", 1, "window one more"),
        ("window-short-in-decode", 0, "window one less"),
    ],
)
def test_a_window_that_is_one_key_off_is_not_taken_for_another_mistake(name: str, seed: int, mistake: str) -> None:
    session = Session(platform=Platform(), profile=profile_named("smoke"), seed=seed)
    session.registry.register(name, mutant_named(name).make_named)
    ask = partial(session.ask, backend=name, checks="all", count_effects=False)
    found = explore(session.drawn.draws("windows", "gemma4-e2b"), partial(ask, explain=False), explain=ask)
    assert found.failure is not None
    assert {one.mistakes for one in found.failure.failures if one.check == "numerics"} == {(mistake,)}
