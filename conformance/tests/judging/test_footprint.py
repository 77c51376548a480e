"""A footprint against the allocations of real runs: never less, and not many times more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from attnconf.backends.reference import ReferenceBackend
from attnconf.cases.case import Case, Layer, Paging
from attnconf.cases.request import Request
from attnconf.judging.checks.catalogue import all_checks, rotated_checks
from attnconf.judging.footprint import footprint
from attnconf.judging.run import run_case
from attnconf.judging.search import CLAIMED
from attnconf.judging.sizes import CLAIMED_MISTAKES
from attnconf.platforms import Platform

if TYPE_CHECKING:
    from collections.abc import Callable

GENEROUS = 8.0
"""A rotated case gets three of the ten checks that count, and the reference expands no key to its query heads."""

FULL = Layer(kind="full", num_qo_heads=4, num_kv_heads=2, head_dim=128, sm_scale=0.125)
SLIDING = FULL.model_copy(update={"kind": "sliding", "window_left": 511})
SHARED = SLIDING.model_copy(update={"kv_owner": 1})


def a_case(length: int = 6000, **changes: object) -> Case:
    return Case(**{"mode": "decode", "layers": (FULL, SLIDING), "requests": (Request(prefix_len=length),), **changes})  # type: ignore[arg-type]


def peak(work: Callable[[], object]) -> int:
    """Return the largest number of bytes that torch held on the CPU at once."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        work()
    assert record.profiler is not None
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


@pytest.mark.parametrize("checks", [rotated_checks, all_checks])
@pytest.mark.parametrize(
    "case",
    [
        a_case(),
        a_case(layers=(FULL.model_copy(update={"num_qo_heads": 16, "num_kv_heads": 1}),)),
        a_case(kv_dtype="float8_e4m3fn", layers=(FULL, SLIDING, SHARED), paging=Paging(placement="fragmented")),
        a_case(
            mode="extend",
            requests=(Request(prefix_len=6000, new_tokens=24), Request(prefix_len=3000, new_tokens=7)),
            paging=Paging(hybrid=True, reclaimed=True, storage="padded"),
        ),
        a_case(q_dtype="float32", kv_dtype="float32", paging=Paging(page_size=1, storage="sliced", slack_pages=7)),
    ],
    ids=["two layers", "one KV head", "8 bits", "extend", "float32"],
)
def test_it_is_never_less_than_what_a_run_takes(case: Case, checks: Callable[..., object]) -> None:
    def run() -> None:
        result = run_case(case, ReferenceBackend(), Platform(), torch.device("cpu"), choose=checks)  # type: ignore[arg-type]
        assert not result.is_failure

    measured = peak(run)
    assert measured <= footprint(case, accelerated=False).host <= GENEROUS * measured


def test_it_grows_with_the_length_and_with_nothing_that_is_not_held() -> None:
    short, long = (footprint(a_case(length), accelerated=True) for length in (4096, 32_768))
    assert 4 < long.device / short.device < 9  # the mistakes that are made at once are limited
    assert 7 < long.host / short.host < 9
    assert footprint(a_case(poison={"k": "nan"}, seed=3), accelerated=True) == footprint(a_case(), accelerated=True)


def test_a_cpu_holds_all_of_it() -> None:
    host, accelerated = (footprint(a_case(), accelerated=where) for where in (False, True))
    assert host.device == 0
    assert host.host > max(accelerated.host, accelerated.device // 2)


def test_as_many_mistakes_are_claimed_as_are_counted_without_them() -> None:
    assert len(CLAIMED) == CLAIMED_MISTAKES
