"""The statistics of claims of speed, on simulated times whose ratio is known."""

from __future__ import annotations

import math

import pytest

from attnconf.speeds.blocks import Block, draw_orders
from attnconf.speeds.estimate import Estimate, estimate
from attnconf.speeds.verdicts import difference, judge_gain, voids
from conformance.tests.support.simulated_clock import SimulatedClock

RUNS = 20


def _estimate(clock: SimulatedClock, seed: int, **shape: int) -> Estimate:
    return estimate([[block.log_ratio for block in one] for one in clock.blocks(seed, **shape)])


def _found(low: float, high: float, lack: str = "") -> Estimate:
    return Estimate(ratio=(low + high) / 2, low=low, high=high, processes=5, blocks=60, lack=lack)


def test_the_ratio_of_a_block_is_that_of_its_sides_whatever_drifts_steadily() -> None:
    for order in ("ABBA", "BAAB"):
        steady = [math.exp(0.1 * step) * (10.0 if side == "A" else 12.0) for step, side in enumerate(order)]
        block = Block.model_validate({"order": order, "micros": steady})
        assert math.exp(block.log_ratio) == pytest.approx(1.2)
    assert Block(order="BAAB", micros=(1.0, 2.0, 3.0, 4.0)).of("A") == (2.0, 3.0)


def test_orders_are_drawn_balanced_and_the_same_again() -> None:
    drawn = draw_orders(12, "a")
    assert drawn.count("ABBA") == drawn.count("BAAB") == 6
    assert draw_orders(12, "a") == drawn
    assert len({draw_orders(12, str(key)) for key in range(20)}) > 10
    assert {draw_orders(1, str(key))[0] for key in range(20)} == {"ABBA", "BAAB"}


def test_a_slowdown_of_five_percent_is_found_and_none_is_claimed_without_one() -> None:
    slower, same = SimulatedClock(speedup=1 / 1.05), SimulatedClock()
    found = [difference(_estimate(slower, seed)) for seed in range(RUNS)]
    assert found.count("slower") >= RUNS - 1, found
    controls = [difference(_estimate(same, seed)) for seed in range(RUNS)]
    assert not {"slower", "faster"} & set(controls), controls
    assert controls.count("no difference") >= RUNS // 2, controls  # an interval that says nothing would pass, too


def test_the_interval_holds_the_ratio_about_as_often_as_it_says() -> None:
    clock = SimulatedClock(speedup=1.1, process_noise=0.02)
    runs = [_estimate(clock, seed, blocks=8) for seed in range(100)]
    held = sum(one.low <= 1.1 <= one.high for one in runs)
    assert held >= 90, held
    blocks_alone = sum(abs(math.log(one.high / one.low)) for one in runs) / len(runs)
    assert blocks_alone > 0.02  # processes differ by 2 %: an interval of pooled blocks would be far narrower


def test_processes_that_disagree_decide_nothing() -> None:
    apart = estimate([[0.06] * 12, [-0.06] * 12, [0.05] * 12, [-0.05] * 12])
    assert difference(apart) == "undecided"
    assert not voids(apart)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (1.14, 1.20, "proven"),
        (1.14, 1.25, "at least"),
        (1.30, 1.40, "at least"),
        (1.02, 1.12, "refuted"),
        (0.80, 0.90, "refuted"),
        (1.10, 1.20, "undecided"),
        (1.00, 1.40, "undecided"),
    ],
)
def test_a_claim_is_judged_by_the_whole_interval(low: float, high: float, verdict: str) -> None:
    assert judge_gain(_found(low, high), 13, 22) == verdict
    assert judge_gain(_found(low, high, lack="too few"), 13, 22) == "undecided"


def test_a_claim_without_an_upper_end_is_proven_by_any_gain_above_it() -> None:
    assert judge_gain(_found(1.3, 1.4), 13, None) == "proven"


def test_too_few_processes_or_blocks_decide_nothing() -> None:
    clock = SimulatedClock(speedup=2.0)
    assert difference(_estimate(clock, 1, processes=2)) == "undecided"
    assert _estimate(clock, 1, processes=2).lack == "2 processes timed it, and 3 are needed"
    assert _estimate(clock, 1, blocks=3).lack == "a process timed 3 blocks of it, and 6 are needed"
    assert difference(_estimate(clock, 1, processes=3, blocks=6)) == "faster"
    alone = _estimate(clock, 1, processes=1, blocks=1)
    assert alone.low == alone.ratio == alone.high
    with pytest.raises(ValueError, match="no block"):
        estimate([[]])


def test_a_process_with_fewer_blocks_counts_as_much_as_another() -> None:
    found = estimate([[0.1] * 6, [0.1] * 30, [0.1] * 12])
    assert found.ratio == found.low == found.high == pytest.approx(math.exp(0.1))  # and no padding is drawn
    assert found.processes == 3
    assert found.blocks == 48


def test_a_control_that_finds_a_difference_voids_its_run() -> None:
    assert voids(_estimate(SimulatedClock(speedup=0.95), 1))
    assert voids(_estimate(SimulatedClock(speedup=1.05), 1))
    assert not voids(_estimate(SimulatedClock(), 1))
