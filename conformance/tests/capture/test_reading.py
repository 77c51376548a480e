"""What strides, tables and slots say."""

from __future__ import annotations

import pytest
import torch

from attnconf.capture.call import UnsayableError
from attnconf.capture.reading import cache_form, dtype_name, pages_of_slots, query_side, table_rows
from attnconf.cases.case import KVLayout, QuerySide, Storage
from attnconf.cases.inputs.storage import allocate, by_token


@pytest.mark.parametrize("layout", ["NHD", "HND"])
@pytest.mark.parametrize("storage", ["apart", "interleaved", "padded", "sliced", "unlike"])
@pytest.mark.parametrize("value_dim", [32, 16])
def test_layout_and_storage_are_read_from_the_strides(layout: KVLayout, storage: Storage, value_dim: int) -> None:
    store = allocate(5, 16, 2, (32, value_dim), layout, storage, torch.float16, torch.device("cpu"))
    k, v = (by_token(view, layout) for view in store.views())
    assert cache_form(k, v) == (layout, storage)


def test_a_table_is_read_as_far_as_the_tokens_need_and_its_tail_is_named() -> None:
    table = torch.tensor([[4, 5, 0], [7, 0, 0]])
    assert table_rows(table, (20, 9), 16) == (((4, 5), (7,)), "null")
    assert table_rows(torch.tensor([[4, 5, 6]]), (20,), 16)[1] == "stale"
    assert table_rows(torch.tensor([[4, 5, -1]]), (20,), 16)[1] == "invalid"


def test_slots_are_grouped_into_pages() -> None:
    assert pages_of_slots((40, 41, 42, 43, 8, 9), 8) == (5, 1)


def test_packed_queries_and_rows_behind_are_seen() -> None:
    packed = torch.zeros(6, 3, 4, 8)[:, 0]
    assert query_side(packed, 4, 99) == QuerySide(storage="packed", slack_rows=2, context_len=99)
    assert query_side(torch.zeros(6, 4, 8), 6, -1) == QuerySide()


def test_a_dtype_that_no_case_has_is_unsayable() -> None:
    assert dtype_name(torch.bfloat16, "a query") == "bfloat16"
    with pytest.raises(UnsayableError, match="keys of int8"):
        dtype_name(torch.int8, "keys")
