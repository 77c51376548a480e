"""Page tables: every token has a slot of its own, shared pages are shared, gone pages are gone, labels are labels."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attnconf.cases.case import Case, Layer, Paging, Placement
from attnconf.cases.drawing.space import Space
from attnconf.cases.drawing.strategies import cases, free_layers
from attnconf.cases.inputs.layout import Layout, place
from attnconf.cases.inputs.pages import has_table_tail, num_pages, pages_needed
from attnconf.cases.recorded import NULL_PAGE
from attnconf.cases.request import Request

SETTINGS = settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
FREE = Space(name="free", layers=free_layers(), max_kv_len=120, max_new_tokens=8)
SLIDING = {"kind": "sliding", "num_qo_heads": 1, "num_kv_heads": 1, "head_dim": 16, "sm_scale": 1.0}


def make(window: int = 7, requests: tuple[Request, ...] = (Request(prefix_len=40),), **paging: object) -> Case:
    return Case(
        mode="decode", layers=(Layer(window_left=window, **SLIDING),), requests=requests, paging=Paging(**paging)
    )


def physical(case: Case, layout: Layout, pool: str) -> dict[tuple[int, int], set[tuple[int, int]]]:
    """Return the live tokens (request, token) that lie in each (page, slot) of a pool."""
    held: dict[tuple[int, int], set[tuple[int, int]]] = {}
    for request, spec in enumerate(case.requests):
        for token in range(spec.kv_len):
            page = layout.page(pool, request, token)
            if page != NULL_PAGE:
                held.setdefault((page, token % case.paging.page_size), set()).add((request, token))
    return held


def source_of(case: Case, request: int, token: int) -> tuple[int, int]:
    """Return the token whose page this one shares, following chains of sharing."""
    spec = case.requests[request]
    while spec.shares_with is not None and token < spec.shared_pages * case.paging.page_size:
        request, spec = spec.shares_with, case.requests[spec.shares_with]
    return request, token


@given(cases(FREE), st.sampled_from([0, 1]))
@SETTINGS
def test_a_slot_holds_one_token_or_the_same_shared_one(case: Case, salt: int) -> None:
    layout = place(case, salt)
    for pool in layout.num_pages:
        for (page, _), tokens in physical(case, layout, pool).items():
            assert 0 < page < layout.num_pages[pool]
            assert len({source_of(case, *token) for token in tokens}) == 1


@given(cases(FREE))
@SETTINGS
def test_pools_have_as_many_pages_as_are_counted_before(case: Case) -> None:
    assert place(case).num_pages == num_pages(case)


@given(cases(FREE))
@SETTINGS
def test_the_full_pool_keeps_every_token_unless_pages_are_reclaimed(case: Case) -> None:
    layout = place(case)
    kept = sum(len(tokens) for tokens in physical(case, layout, "full").values())
    total = sum(request.kv_len for request in case.requests)
    assert kept == total if case.paging.hybrid or not case.paging.reclaimed else kept <= total


@given(cases(FREE))
@SETTINGS
def test_reclaimed_pages_are_exactly_those_that_no_window_reaches(case: Case) -> None:
    if not case.paging.reclaimed:
        return
    layout, size = place(case), case.paging.page_size
    pool = "swa" if case.paging.hybrid else "full"
    window = max(layer.window_left for layer in case.layers if layer.kind == "sliding")
    visible = {
        source_of(case, request, token // size * size)
        for request, spec in enumerate(case.requests)
        for token in range(spec.kv_len)
        if token // size >= max(0, spec.prefix_len - window) // size
    }
    for request, spec in enumerate(case.requests):
        for token in range(0, spec.kv_len, size):
            gone = layout.page(pool, request, token) == NULL_PAGE
            assert gone == (source_of(case, request, token) not in visible)


@given(cases(FREE))
@SETTINGS
def test_block_tables_begin_with_the_pages_and_are_as_wide_as_asked(case: Case) -> None:
    layout = place(case)
    needed = [pages_needed(request.kv_len, case.paging.page_size) for request in case.requests]
    assert layout.block_tables.shape == (
        len(case.requests) + case.padding_rows,
        max(1, *needed) + case.paging.extra_columns,
    )
    assert layout.block_tables.dtype == torch.int32
    for row, count in enumerate(needed):
        assert layout.block_tables[row, :count].tolist() == list(layout.tables[row])


@given(cases(FREE))
@SETTINGS
def test_the_translation_takes_every_live_slot_of_the_full_pool_to_its_swa_slot(case: Case) -> None:
    layout, size = place(case), case.paging.page_size
    mapping = layout.full_to_swa()
    assert (mapping is not None) == case.paging.hybrid
    if mapping is None:
        return
    assert mapping.shape == (layout.num_pages["full"] * size,)
    for request, spec in enumerate(case.requests):
        for token in range(spec.kv_len):
            full, swa = (layout.page(pool, request, token) for pool in ("full", "swa"))
            wanted = swa * size + token % size if swa != NULL_PAGE else 0
            assert int(mapping[full * size + token % size]) == wanted
    assert mapping[:size].tolist() == [0] * size


@given(cases(FREE))
@SETTINGS
def test_another_salt_gives_other_ids_to_the_same_pages(case: Case) -> None:
    one, other = place(case), place(case, salt=1)
    assert [len(table) for table in one.tables] == [len(table) for table in other.tables]
    label: dict[int, int] = {}
    for first, second in zip(one.tables, other.tables, strict=True):
        for before, after in zip(first, second, strict=True):
            assert label.setdefault(before, after) == after
    assert len(set(label.values())) == len(label)


@pytest.mark.parametrize("placement", ["identity", "reversed", "random", "fragmented", "high"])
def test_relabelling_changes_ids_even_of_a_few_pages(placement: Placement) -> None:
    changed = 0
    for seed in range(8):
        case = make(placement=placement, slack_pages=0, page_size=64).model_copy(update={"seed": seed})
        changed += place(case).tables != place(case, salt=1).tables
    assert changed >= 3


def test_placements_are_what_they_say() -> None:
    drawn = [kind for kind in Placement.__args__ if kind != "recorded"]
    tables = {kind: place(make(placement=kind, page_size=8)).tables[0] for kind in drawn}
    assert tables["identity"] == (1, 2, 3, 4, 5, 6)
    assert tables["reversed"] == (6, 5, 4, 3, 2, 1)
    assert sorted(tables["random"]) != list(tables["random"])
    assert all(page % 2 for page in tables["fragmented"])
    assert min(tables["high"]) > 4096 // 8


def test_hybrid_page_ids_differ_from_those_of_the_full_pool() -> None:
    for seed in range(10):
        case = make(page_size=8, hybrid=True, placement="identity").model_copy(update={"seed": seed})
        layout = place(case)
        assert layout.swa_page is not None
        assert all(full != swa for full, swa in layout.swa_page.items())


@pytest.mark.parametrize(
    ("tail", "fits"), [("null", lambda ids, _n: ids == 0), ("stale", lambda ids, n: (ids >= 0) & (ids < n))]
)
def test_the_tail_of_a_table_is_filled_as_asked(tail: str, fits: Callable) -> None:
    layout = place(make(page_size=8, extra_columns=5, table_tail=tail))
    assert bool(fits(layout.block_tables[0, 6:], layout.num_pages["full"]).all())


def test_an_invalid_tail_lies_outside_the_pool() -> None:
    layout = place(make(page_size=8, extra_columns=5, table_tail="invalid"))
    ids = layout.block_tables[0, 6:]
    assert bool(((ids < 0) | (ids >= layout.num_pages["full"])).all())


def test_shared_pages_have_one_id() -> None:
    requests = (Request(prefix_len=40), Request(prefix_len=30, shares_with=0, shared_pages=3))
    tables = place(make(page_size=8, requests=requests)).tables
    assert tables[0][:3] == tables[1][:3]
    assert not set(tables[0][3:]) & set(tables[1][3:])


def test_a_padding_row_points_at_the_null_page() -> None:
    case = make(page_size=8, table_tail="invalid").model_copy(update={"padding_rows": 2, "padding_kv_len": 1})
    assert place(case).block_tables[1:, 0].tolist() == [NULL_PAGE, NULL_PAGE]


def test_a_block_table_has_a_tail_where_a_row_is_longer_than_its_pages() -> None:
    long, short = Request(prefix_len=40), Request(prefix_len=3)
    assert not has_table_tail(make(requests=(long, long)))
    assert has_table_tail(make(requests=(long, short)))
    assert has_table_tail(make(requests=(long, long), extra_columns=1))
