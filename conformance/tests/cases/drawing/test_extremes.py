"""Extremes: ladders with both sides of powers of two, and a deck in which each extreme meets each feature."""

from __future__ import annotations

from functools import cache

import pytest

from attnconf.cases.case import Case
from attnconf.cases.drawing.drawn import DrawnCases
from attnconf.cases.drawing.extremes import (
    EXTREMES,
    FAR_KEYS,
    FEATURES,
    LARGE_PAGES,
    MANY_KEYS,
    MANY_REQUESTS,
    MANY_ROWS,
    Card,
    deck,
    ladder,
)
from attnconf.cases.drawing.profiles import profile_named
from attnconf.cases.inputs.logical import make_logical

FLOAT16 = 65_504


@cache
def dealt(name: str, *, accelerated: bool = False, seed: int = 0) -> tuple[tuple[Card, Case], ...]:
    """Return the cards of a profile with their cases, which come first."""
    profile = profile_named(name)
    cards = deck(profile.cards, seed, built=accelerated, far=profile.far)
    cases = DrawnCases(profile, seed, accelerated=accelerated).cases("free", "free")
    return tuple(zip(cards, cases, strict=False))


def is_extreme(card: Card, case: Case) -> bool:
    layer = case.layers[0]
    return {
        "requests": len(case.requests) >= 15,
        "rows": max(request.new_tokens for request in case.requests) >= 63,
        "keys": case.max_kv_len >= 600,
        "far keys": case.max_kv_len >= 2**15 - 1,
        "heads": layer.num_kv_heads >= 7,
        "layers": len(case.layers) >= 7,
        "page ids": case.paging.placement == "far",
        "page size": case.paging.page_size in LARGE_PAGES and case.max_kv_len >= case.paging.page_size - 1,
        "scores": layer.sm_scale <= 0.01,
    }[card.extreme]


def has(card: Card, case: Case) -> bool:
    def any_layer(trait: str) -> bool:
        return any(getattr(layer, trait) for layer in case.layers)

    return {
        "window": any(layer.kind == "sliding" for layer in case.layers),
        "sinks": any_layer("sinks"),
        "cap": any_layer("logits_soft_cap"),
        "fp8": case.kv_dtype == "float8_e4m3fn",
        "redirected": any(layer.kv_owner is not None for layer in case.layers),
        "hybrid": case.paging.hybrid and {"sliding"} < {layer.kind for layer in case.layers},
    }[card.feature]


@pytest.mark.parametrize("accelerated", [False, True])
def test_gate_pairs_each_extreme_with_each_feature(accelerated: bool) -> None:  # noqa: FBT001
    found = dealt("gate", accelerated=accelerated)
    pairs = {(card.extreme, card.feature) for card, _ in found}
    assert pairs == {(extreme, feature) for extreme in {card.extreme for card, _ in found} for feature in FEATURES}
    assert {(card.extreme, card.part) for card, _ in found} == {
        (extreme, part) for extreme, _ in pairs for part in range(len(FEATURES))
    }
    assert accelerated or {card.extreme for card, _ in found} == set(EXTREMES)
    lacking = [card for card, case in found if not (is_extreme(card, case) and has(card, case))]
    assert lacking == []


def test_smoke_has_each_extreme_once_and_other_pairs_for_another_seed() -> None:
    found, others = dealt("smoke"), dealt("smoke", seed=1)
    assert [card.extreme for card, _ in found] == [extreme for extreme in EXTREMES if extreme != "far keys"]
    assert not {card for card, _ in found} & {card for card, _ in others}
    assert all(is_extreme(card, case) for card, case in (*found, *others))


@pytest.mark.parametrize("rungs", [MANY_REQUESTS, MANY_ROWS, MANY_KEYS, FAR_KEYS])
def test_a_ladder_has_both_sides_of_powers_of_two(rungs: tuple[int, ...]) -> None:
    powers = [size for size in rungs if size & (size - 1) == 0]
    assert len(powers) >= 2
    assert all({size - 1, size + 1} <= set(rungs) for size in powers)
    assert list(rungs) == sorted(set(rungs))


def test_the_parts_of_a_ladder_are_all_of_it() -> None:
    parts = [ladder("keys", MANY_KEYS, far=True, part=part) for part in range(len(FEATURES))]
    assert tuple(rung for part in parts for rung in part) == MANY_KEYS
    assert all(ladder("layers", (1, 2), far=True, part=part) for part in range(len(FEATURES)))


def test_a_profile_without_time_leaves_out_the_far_rungs() -> None:
    assert max(ladder("rows", MANY_ROWS, far=False)) < 300 < max(ladder("rows", MANY_ROWS, far=True))
    cases = DrawnCases(profile_named("smoke"), 0, accelerated=False).cases("free", "free")
    assert max(case.max_kv_len for case in cases) <= 20_300
    assert max(len(case.requests) for case in cases) <= 65


def test_products_of_q_and_k_leave_float16_in_both_directions_and_a_row_may_lie_below_all() -> None:
    found = [case for card, case in dealt("gate") if card.extreme == "scores"]
    tops, bottoms = [], []
    for case in found:
        logical = make_logical(case)
        for index in range(len(case.layers)):
            for request in range(len(case.requests)):
                products = _products(logical.problem(index, request))
                if products is not None:
                    tops.append(products.amax(dim=2).min())
                    bottoms.append(products.amin(dim=2).max())
    assert max(map(float, bottoms)) > FLOAT16  # all products of some row
    assert min(map(float, tops)) < -FLOAT16


def _products(problem):  # noqa: ANN001, ANN202 - tensors [heads, rows, keys], None without a key
    if not (len(problem.q) and len(problem.k)):
        return None
    q, k = problem.q.double(), problem.k.double()[:, problem.kv_head_of] * problem.k_scale
    return (q.transpose(0, 1)[:, :, None] * k.permute(1, 0, 2)[:, None]).sum(dim=3)


def test_stored_8_bit_values_reach_both_limits() -> None:
    stored = [
        make_logical(case).layers[0]
        for case in DrawnCases(profile_named("gate"), 0, accelerated=False).cases("free", "free")
        if case.kv_dtype == "float8_e4m3fn" and case.max_kv_len < 400
    ]
    tensors = [tensor.float().abs() for layer in stored for tensor in (layer.k, layer.v) if tensor.numel()]
    assert any(float(tensor.max()) == 448.0 for tensor in tensors)
    assert any(float(((tensor > 0) & (tensor < 2.0**-6)).float().mean()) > 0.2 for tensor in tensors)


def test_the_first_request_is_empty_in_some_cases() -> None:
    cases = DrawnCases(profile_named("gate"), 0, accelerated=False).cases("free", "free")
    first = [case for case in cases if case.requests[0].new_tokens == 0]
    assert len(first) >= 5
    assert all(any(request.new_tokens for request in case.requests) for case in first)


def test_windows_start_at_tiles_of_128_and_256() -> None:
    starts = {
        (request.prefix_len + row - layer.window_left) % tile
        for tile in (256,)
        for seed in (0, 1)  # few requests are so long
        for case in DrawnCases(profile_named("gate"), seed, accelerated=False).cases("windows", "gemma4-e2b")
        for layer in case.layers
        for request in case.requests
        for row in (0, request.new_tokens - 1)
        if request.prefix_len + row - layer.window_left >= tile
    }
    assert starts & {255, 0, 1}
