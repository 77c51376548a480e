"""Levels of sinks: far above or below all scores of a row by turns, and beyond scores that are themselves far away."""

from __future__ import annotations

import pytest
import torch

from attnconf.backends.reference import ReferenceBackend
from attnconf.backends.torch_sdpa import make as torch_sdpa
from attnconf.cases.inputs.levels import sink_shift
from attnconf.cases.inputs.logical import make_logical
from attnconf.judging.checks.catalogue import base_checks
from attnconf.judging.run import run_case
from attnconf.mutants.small_cases import CAPPED, SINKS, SLIDING, ask
from attnconf.platforms import Platform

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


@pytest.mark.parametrize("seed", [3, 4, 9, 10, 11, 12, 17, 18])
@pytest.mark.parametrize("backend", [ReferenceBackend(), torch_sdpa(Platform())], ids=["reference", "torch_sdpa"])
def test_far_sinks_are_no_false_alarm(backend: object, seed: int) -> None:
    layers = (SINKS, SLIDING.model_copy(update={"sinks": True}), CAPPED.model_copy(update={"sinks": True}))
    for dtype in ("float32", "float16", "bfloat16"):
        case = ask("verify", *layers, q_dtype=dtype, kv_dtype=dtype, seed=seed)
        found = run_case(case, backend, Platform(), CPU, choose=base_checks, count_effects=False)  # type: ignore[arg-type]
        assert not found.is_failure, found.failures
