"""The calls of one step become cases that validate, with their tables, sharing, padding and layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attnconf.capture.building import cases_of
from attnconf.capture.call import LayerCall, Memory, UnsayableError
from attnconf.cases.case import Case, Layer, QuerySide

FULL = Layer(kind="full", num_qo_heads=4, num_kv_heads=2, head_dim=32, sm_scale=0.1)
SLIDING = FULL.model_copy(update={"kind": "sliding", "window_left": 7})
MEMORY = Memory(page_size=4, num_pages=20, tables=((3, 9, 2), (3, 9, 5)), columns=8, layout="HND", storage="sliced")
CALL = LayerCall(
    name="0",
    layer=FULL,
    q_lens=(1, 1),
    kv_lens=(9, 10),
    memory=MEMORY,
    q_dtype="float16",
    kv_dtype="float16",
    out_dtype="float16",
    query=QuerySide(context_len=64),
)


def only(*calls: LayerCall, model: str = "free") -> Case:
    (case,) = cases_of(calls, model=model)
    return case


def test_a_call_is_a_case_with_its_tables_strides_and_hints() -> None:
    case = only(CALL)
    assert (case.mode, case.q_dtype, case.max_seq_len) == ("decode", "float16", 64)
    paging = case.paging
    assert (paging.placement, paging.layout, paging.storage, paging.extra_columns) == ("recorded", "HND", "sliced", 5)
    assert paging.recorded is not None
    assert (paging.recorded.tables, paging.recorded.num_pages) == (MEMORY.tables, 20)
    assert [(one.prefix_len, one.shares_with, one.shared_pages) for one in case.requests] == [(8, None, 0), (9, 0, 2)]
    assert Case.from_data(case.to_data(), "captured") == case


def test_layers_of_one_geometry_are_one_and_a_redirected_one_has_its_owner() -> None:
    shared = replace(CALL, name="3", owner="0")
    case = only(
        CALL, replace(CALL, name="1"), replace(CALL, name="2", layer=SLIDING), shared, replace(shared, name="4")
    )
    assert [(layer.kind, layer.kv_owner) for layer in case.layers] == [("full", None), ("sliding", None), ("full", 0)]
    alone = only(shared)
    assert [layer.kv_owner for layer in alone.layers] == [None, 0]


def test_a_layer_that_follows_images_and_one_that_does_not_are_one_case() -> None:
    images = ((), ((2, 6), (7, 12)))
    memory = replace(MEMORY, tables=((3, 9, 2), (4, 7, 5)))
    step = replace(CALL, q_lens=(3, 4), memory=memory)
    follows = replace(step, name="1", layer=SLIDING.model_copy(update={"spans": True}), spans=images)
    case = only(step, follows)
    assert [layer.spans for layer in case.layers] == [False, True]
    assert tuple(request.spans for request in case.requests) == images
    other = replace(follows, name="2", spans=((), ((2, 6),)))
    with pytest.raises(UnsayableError, match="layers of one step that follow different spans"):
        cases_of([follows, other], model="free")


def test_both_pools_of_hybrid_memory_are_one_case() -> None:
    own = replace(MEMORY, num_pages=9, tables=((0, 4, 1), (0, 4, 6)), pool="swa", full_tables=MEMORY.tables)
    sliding = replace(CALL, name="1", layer=SLIDING.model_copy(update={"window_left": 3}), memory=own)
    case = only(CALL, sliding)
    assert (case.paging.hybrid, case.paging.reclaimed) == (True, True)
    assert case.paging.recorded is not None
    assert dict(case.paging.recorded.swa_pages) == {3: 0, 9: 4, 2: 1, 5: 6}
    single = only(sliding)
    assert (single.paging.hybrid, single.paging.reclaimed) == (False, True)
    other = replace(sliding, memory=replace(own, full_tables=((1, 2, 3), (1, 2, 4))))
    assert [case.paging.hybrid for case in cases_of([CALL, other], model="free")] == [False, False]


def test_rows_that_fill_a_captured_decode_are_padding() -> None:
    memory = replace(MEMORY, tables=((3, 9, 2), (0,), (0,)))
    case = only(replace(CALL, q_lens=(1, 1, 1), kv_lens=(9, 1, 1), memory=memory))
    assert (len(case.requests), case.padding_rows, case.padding_kv_len) == (1, 2, 1)


def test_without_a_table_tokens_lie_as_in_drawn_cases() -> None:
    case = only(replace(CALL, memory=replace(MEMORY, tables=None)))
    assert (case.paging.placement, case.paging.recorded) == ("random", None)


def test_the_pages_of_a_pool_that_is_too_large_are_numbered_anew() -> None:
    case = only(replace(CALL, memory=replace(MEMORY, num_pages=10_000_000)))
    assert case.paging.recorded is not None
    assert (case.paging.recorded.tables, case.paging.recorded.num_pages) == (((2, 4, 1), (2, 4, 3)), 5)


@pytest.mark.parametrize(
    ("lens", "mode"),
    [
        (((1, 1), (9, 10)), "decode"),
        (((3, 3), (9, 10)), "verify"),
        (((9, 9), (9, 10)), "extend"),
        (((3, 3), (3, 10)), "extend"),
        (((1, 4), (9, 10)), "mixed"),
    ],
)
def test_lengths_say_the_mode_where_the_engine_does_not(lens: tuple[tuple[int, ...], ...], mode: str) -> None:
    tables = tuple(tuple(range(1 + 5 * row, 1 + 5 * row + -(-kv // 4))) for row, kv in enumerate(lens[1]))
    call = replace(CALL, q_lens=lens[0], kv_lens=lens[1], memory=replace(MEMORY, tables=tables))
    assert only(call).mode == mode


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"q_lens": (0, 0)}, "a step without a query token"),
        ({"q_lens": (65, 65), "kv_lens": (70, 70), "mode": "verify"}, "a verify step of more than 64 tokens"),
        ({"memory": replace(MEMORY, tables=((3, 9, 2), (3, 2, 5)))}, "request 1: page 2 is also read by request 0"),
    ],
)
def test_what_no_case_can_say_is_said(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UnsayableError, match=said):
        cases_of([replace(CALL, **change)], model="free")
