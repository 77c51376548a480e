"""The strategies draw valid cases that lean to borders, cheaply, and shrink to the smallest thing that still fails."""

from __future__ import annotations

import time
from random import Random
from typing import get_args

import pytest
from hypothesis import HealthCheck, Phase, find, given, seed, settings
from hypothesis import strategies as st

from attnconf.cases.case import Case, Layer, Mode, Storage
from attnconf.cases.drawing.space import DTYPES, RARE_FORMATS, Space, over
from attnconf.cases.drawing.strategies import cases, free_layers, model_layers
from attnconf.cases.dtypes import Dtypes
from attnconf.cases.inputs.pages import pages_needed

FREE = Space(name="free", layers=free_layers())
CALL_TIME = {"window_left", "sm_scale", "logits_soft_cap"}
GEOMETRY = (
    Layer(kind="sliding", window_left=511, num_qo_heads=2, num_kv_heads=1, head_dim=256, sm_scale=1.0),
    Layer(kind="full", num_qo_heads=2, num_kv_heads=1, head_dim=512, sm_scale=1.0),
    Layer(kind="sliding", window_left=511, num_qo_heads=2, num_kv_heads=1, head_dim=256, sm_scale=1.0, kv_owner=0),
)
GEMMA = Space(name="gemma", layers=model_layers(GEOMETRY), model="gemma", hybrid=True)


def draw(space: Space, count: int) -> list[Case]:
    drawn: list[Case] = []

    @seed(1)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases(space))
    def collect(case: Case) -> None:
        drawn.append(case)

    collect()
    return drawn


@given(cases(FREE))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_every_drawn_case_is_valid_without_a_health_check_suppressed(case: Case) -> None:
    assert Case.model_validate(case.to_data()) == case
    for layer in case.layers:
        Layer.model_validate(layer.model_dump())


def test_a_windowed_case_has_a_queried_request_past_its_longest_window() -> None:
    for case in [*draw(FREE, 150), *draw(GEMMA, 50)]:
        windows = [layer.window_left for layer in case.layers if layer.kind == "sliding"]
        if windows:
            longest = max(request.kv_len for request in case.requests if request.new_tokens)
            assert longest > max(windows) + 1


def test_layers_that_one_kernel_serves_differ_in_each_number_of_a_call() -> None:
    differing: set[str] = set()
    apart = 0
    for case in draw(FREE, 300):
        first = case.layers[0].model_dump()
        for layer in case.layers[1:]:
            unlike = {name for name, value in layer.model_dump().items() if value != first[name]}
            if unlike - {"kv_owner", "k_scale", "v_scale"} <= CALL_TIME:
                differing |= unlike
                apart += layer.kv_owner is None and "window_left" in unlike
    assert differing > CALL_TIME
    assert apart >= 5


def test_the_space_is_honoured() -> None:
    space = Space(
        name="small",
        layers=free_layers(),
        modes=("decode", "verify"),
        dtypes=(Dtypes("float16", "float8_e4m3fn", "float16"),),
        formats=(),
        page_sizes=(4, 8),
        max_requests=1,
        max_kv_len=50,
        past_window=False,
        hybrid=False,
    )
    for case in draw(space, 100):
        assert case.mode in {"decode", "verify"}
        assert (case.q_dtype, case.kv_dtype) == ("float16", "float8_e4m3fn")
        assert case.paging.page_size in {4, 8}
        assert len(case.requests) == 1
        assert max(request.kv_len for request in case.requests) <= 50
        assert not case.paging.hybrid
        assert all((layer.k_scale, layer.k_scales) != (layer.v_scale, layer.v_scales) for layer in case.layers)


def test_model_layers_are_drawn_as_they_are() -> None:
    for case in draw(GEMMA, 30):
        assert case.model == "gemma"
        assert case.paging.hybrid
        plain = tuple(
            layer.model_copy(
                update=dict.fromkeys(("k_scale", "v_scale", "q_scale", "out_scale"), 1.0)
                | {"k_scales": (), "v_scales": ()}
            )
            for layer in case.layers
        )
        assert plain == GEOMETRY


def test_half_of_the_cases_ask_what_every_backend_must_bear() -> None:
    drawn = draw(FREE, 400)
    calm = sum({case.poison.k, case.poison.v} <= {"stale", "zero"} for case in drawn)
    assert 0.4 < calm / len(drawn) < 0.8  # Hypothesis favours the first choices a little


def test_everything_is_drawn_within_a_few_hundred_cases() -> None:
    drawn = draw(FREE, 400)
    assert len({case.id for case in drawn}) > 350
    assert {case.mode for case in drawn} == {"decode", "extend", "mixed", "verify"}
    assert {case.dtypes for case in drawn} == {*DTYPES, *(one for name in RARE_FORMATS for one in over(name, DTYPES))}
    assert {case.poison.k for case in drawn} == {"stale", "zero", "huge", "inf", "nan"}
    assert {case.paging.storage for case in drawn} == set(get_args(Storage))
    assert {case.paging.placement for case in drawn} == {"random", "identity", "reversed", "fragmented", "high"}
    assert {layer.group_size for case in drawn for layer in case.layers} >= {1, 2, 3, 4, 5, 6, 7, 8, 16}
    for trait in (
        lambda case: case.paging.hybrid,
        lambda case: case.paging.reclaimed,
        lambda case: any(layer.kv_owner is not None for layer in case.layers),
        lambda case: any(request.shared_pages for request in case.requests),
        lambda case: any(request.new_tokens == 0 for request in case.requests),
        lambda case: case.padding_rows and case.padding_kv_len == 0,
        lambda case: any(request.kv_len % case.paging.page_size == 0 for request in case.requests),
        lambda case: any(request.kv_len % case.paging.page_size == 1 for request in case.requests),
        lambda case: any(layer.sinks and layer.logits_soft_cap for layer in case.layers),
        lambda case: case.query.storage == "packed",
        lambda case: case.query.slack_rows,
        lambda case: case.query.context_len == 2**20,
        lambda case: case.paging.table_slack,
    ):
        assert sum(bool(trait(case)) for case in drawn) >= 8


@pytest.mark.parametrize("mode", ["decode", "extend", "verify", "mixed"])
def test_a_case_shrinks_to_one_request_one_page_one_head(mode: Mode) -> None:
    """Hypothesis stops after 500 steps, wherever it is then; from some of a few beginnings it gets to the end."""
    space = Space(name="one", layers=free_layers(), modes=(mode,))

    def smallest(seed: int) -> Case:
        given = settings(database=None, max_examples=100)
        return find(cases(space), lambda _: True, settings=given, random=Random(seed))  # noqa: S311 - no secret

    assert any(is_smallest(smallest(seed)) for seed in range(2, 8))


def is_smallest(case: Case) -> bool:
    layer = case.layers[0]
    return (
        len(case.requests) == (2 if case.mode == "mixed" else 1)
        and len(case.layers) == 1
        and (layer.num_qo_heads, layer.num_kv_heads, layer.head_dim, layer.window_left) == (1, 1, 16, -1)
        and max(request.kv_len for request in case.requests) <= 2
        and max(pages_needed(request.kv_len, case.paging.page_size) for request in case.requests) <= 2
        and case.seed == 0
    )


def test_a_failure_that_needs_sinks_shrinks_to_sinks_alone() -> None:
    case = find(
        cases(FREE),
        lambda case: any(layer.sinks for layer in case.layers),
        settings=settings(database=None, max_examples=300),
    )
    assert len(case.layers) == 1
    assert case.layers[0].sinks
    assert case.layers[0].logits_soft_cap is None


LONG = Space(name="long", layers=model_layers(GEOMETRY), long_kv_len=32_768, max_requests=2)


def test_a_long_case_reaches_its_length_and_its_neighbours_lie_anywhere_below() -> None:
    drawn = draw(LONG, 60)
    for case in drawn:
        queried = max(request.kv_len for request in case.requests if request.new_tokens)
        assert 32_768 <= case.max_kv_len == queried <= 32_768 + max(case.paging.page_size, 24)
    others = [min(request.kv_len for request in case.requests) for case in drawn if len(case.requests) > 1]
    assert sum(4095 <= length <= 16_385 for length in others) >= 5
    assert sum(length <= 300 for length in others) >= 5
    assert len({case.max_kv_len % case.paging.page_size for case in drawn}) >= 3


def test_a_long_case_goes_past_a_window_that_is_largeer_still() -> None:
    layer = GEOMETRY[0].model_copy(update={"window_left": 40_000})
    space = Space(name="wide", layers=model_layers([layer]), long_kv_len=32_768)
    assert all(case.max_kv_len > 40_001 for case in draw(space, 20))


def test_a_draw_is_cheap() -> None:
    start = time.perf_counter()
    draw(FREE, 200)
    assert (time.perf_counter() - start) / 200 < 0.1


def test_a_space_of_one_request_may_still_be_mixed() -> None:
    space = Space(name="one", layers=free_layers(), max_requests=1)
    counts = {(case.mode == "mixed", len(case.requests)) for case in draw(space, 100)}
    assert counts == {(True, 2), (False, 1)}


def test_the_strategy_is_a_plain_hypothesis_strategy() -> None:
    assert isinstance(cases(FREE), st.SearchStrategy)
