"""Levels: all scores of a row, or its sinks, lie far above or below by turns, and sinks beyond scores that do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from attnconf.backends.reference import ReferenceBackend
from attnconf.backends.torch_sdpa import make as torch_sdpa
from attnconf.cases.inputs.levels import raw_base, sink_shift
from attnconf.cases.inputs.logical import make_logical
from attnconf.judging.checks.catalogue import base_checks
from attnconf.judging.mistakes import MISTAKES, answers_to
from attnconf.judging.posed import PosedCase
from attnconf.judging.run import run_case
from attnconf.mutants.small_cases import CAPPED, FULL, SINKS, SLIDING, ask, quantised
from attnconf.oracle.attention import attend
from attnconf.platforms import Platform

if TYPE_CHECKING:
    from attnconf.cases.case import Case

CPU = torch.device("cpu")
FAR = range(64)


def shifts(seed: int, **layer: object) -> list[float]:
    case = ask("decode", SINKS.model_copy(update=layer), seed=seed)
    return [sink_shift(case, case.layers[0], head) for head in range(case.layers[0].num_qo_heads)]


def test_some_seeds_have_sinks_that_leave_float32_and_one_head_in_four_has_them() -> None:
    assert shifts(3) == [100.0, 0.0, 0.0, 0.0, 100.0, 0.0]
    assert shifts(8 + 4) == [0.0, 0.0, 0.0, -100.0, 0.0, 0.0]
    assert shifts(0) == shifts(7) == [0.0] * 6


def test_sinks_stay_around_zero_where_all_scores_are_raised_or_lowered() -> None:
    raised, lowered = shifts(8 + 1), shifts(8 + 2)
    assert set(raised) == {0.0, -160.0}
    assert set(lowered) == {0.0, 160.0}
    for seed, wanted in ((8 + 1, raised), (8 + 2, lowered)):
        sinks = make_logical(ask("decode", SINKS, seed=seed)).layers[0].sinks
        assert sinks is not None
        head = next(index for index, shift in enumerate(wanted) if shift)
        assert abs(float(sinks[head])) < 10.0
        assert float(sinks[head - 1].abs()) > 100.0


def test_a_layer_of_few_heads_keeps_its_power() -> None:
    assert all(max(shifts(seed, num_qo_heads=2)) <= 0.0 for seed in FAR)
    assert any(min(shifts(seed, num_qo_heads=2)) < 0.0 for seed in FAR)


def scores_of(case: Case, layer: int = 0) -> torch.Tensor:
    """Return the scaled products of the first request's last row with its keys, before a soft cap."""
    problem = make_logical(case).problem(layer, 0)
    return (
        torch.einsum("hd,jhd->jh", problem.q[-1].double(), problem.k.double()[:, problem.kv_head_of]) * problem.sm_scale
    )


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_in_some_seeds_all_scores_lie_below_what_stands_for_hidden_elsewhere(dtype: str) -> None:
    for seed, sign in ((16 + 2, -1.0), (16 + 1, 1.0)):
        scores = scores_of(ask("decode", q_dtype=dtype, kv_dtype=dtype, seed=seed))
        assert 11_900.0 < float((sign * scores).min()) < float((sign * scores).max()) < 13_600.0
        usual = scores.median(dim=0).values
        assert 0.2 < float((scores - usual).abs().median()) < 2.0  # rounding does not drown the scores' differences
        assert float((scores - usual).max(dim=0).values.min()) > 2.0  # each head has a key that rises above the others


def test_eight_bits_and_a_small_scale_keep_the_near_level() -> None:
    eight = quantised("decode", seed=18)
    assert raw_base(eight, eight.layers[0]) == -160.0
    faint = ask("decode", FULL.model_copy(update={"sm_scale": 0.001}), seed=18)
    assert raw_base(faint, faint.layers[0]) == -160.0


def test_half_of_the_seeds_have_scores_near_the_low_end_of_a_cap() -> None:
    lows = [raw_base(ask("extend", CAPPED, seed=seed), CAPPED) < -CAPPED.logits_soft_cap for seed in range(64)]
    assert sum(lows) == 32
    wide = CAPPED.model_copy(update={"logits_soft_cap": 50.0})
    case = ask("extend", wide, seed=16)
    mistake = next(one for one in MISTAKES if one.name == "soft cap after mask")
    scene = PosedCase(case, CPU).scene(0, 0)
    (wrong,) = answers_to([mistake.apply(scene)])
    right = attend(scene.problem)
    assert float((wrong.out - right.out).abs().max()) > 0.01


@pytest.mark.parametrize("seed", [3, 4, 9, 10, 11, 12, 17, 18, 25, 26])
@pytest.mark.parametrize("backend", [ReferenceBackend(), torch_sdpa(Platform())], ids=["reference", "torch_sdpa"])
def test_far_sinks_are_no_false_alarm(backend: object, seed: int) -> None:
    layers = (SINKS, SLIDING.model_copy(update={"sinks": True}), CAPPED.model_copy(update={"sinks": True}))
    for dtype in ("float32", "float16", "bfloat16"):
        case = ask("verify", *layers, q_dtype=dtype, kv_dtype=dtype, seed=seed)
        found = run_case(case, backend, Platform(), CPU, choose=base_checks, count_effects=False)  # type: ignore[arg-type]
        assert not found.is_failure, found.failures
