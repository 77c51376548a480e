"""Shorter versions of a long case: valid, shortest first, with the last page as full as it was."""

from __future__ import annotations

from attnconf.cases.case import Case, Layer, Paging
from attnconf.cases.drawing.lengths import shortened
from attnconf.cases.request import Request

LAYER = Layer(kind="full", num_qo_heads=2, num_kv_heads=1, head_dim=16, sm_scale=0.25)


def long_case(**changes: object) -> Case:
    requests = (
        Request(prefix_len=32_771, new_tokens=4),
        Request(prefix_len=8190, new_tokens=4, shares_with=0, shared_pages=400),
        Request(prefix_len=20, new_tokens=4, shares_with=1, shared_pages=1),
    )
    return Case(mode="verify", layers=(LAYER,), requests=requests, paging=Paging(page_size=16), **changes)  # type: ignore[arg-type]


def test_the_shortest_comes_first_and_all_are_valid() -> None:
    case = long_case(seed=7)
    cut = list(shortened(case))
    assert [one.max_kv_len // 16 * 16 for one in cut] == [512, 2048, 4096, 8192, 16_384]
    for one in cut:
        assert Case.model_validate(one.to_data()) == one
        assert (one.seed, one.requests[2]) == (case.seed, case.requests[2])
        assert all(new.new_tokens == old.new_tokens for new, old in zip(one.requests, case.requests, strict=True))
        assert [request.kv_len % 16 for request in one.requests] == [request.kv_len % 16 for request in case.requests]


def test_shared_pages_stay_within_both_prefixes() -> None:
    first = next(iter(shortened(long_case())))
    assert first.requests[1].shared_pages == first.requests[1].prefix_len // 16
    assert list(shortened(long_case()))[-1].requests[1] == long_case().requests[1]


def test_a_page_larger_than_the_cut_still_holds_the_rest() -> None:
    case = Case(mode="decode", layers=(LAYER,), requests=(Request(prefix_len=32_800),), paging=Paging(page_size=8192))
    assert all(one.max_kv_len < case.max_kv_len for one in shortened(case))


def test_a_short_case_has_no_shorter_version() -> None:
    case = Case(mode="decode", layers=(LAYER,), requests=(Request(prefix_len=500),))
    assert list(shortened(case)) == []
