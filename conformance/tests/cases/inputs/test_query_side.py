"""Queries and tables as slices: where their rows lie, what is beside and behind them, and what a check sees of it."""

from __future__ import annotations

import pytest
import torch

from attnconf.backends.reference import ReferenceBackend
from attnconf.cases.case import Case, Paging, QuerySide
from attnconf.cases.inputs.assemble import assemble
from attnconf.cases.inputs.layout import place
from attnconf.cases.inputs.logical import make_logical
from attnconf.cases.inputs.target import make_target
from attnconf.judging.checks.static_memory import own_memory
from attnconf.judging.mistakes.strides import QUERY_ROWS
from attnconf.judging.posed import PosedCase
from attnconf.mutants.small_cases import FULL, SCALED, SHARED, ask, quantised

CPU = torch.device("cpu")
PACKED = QuerySide(storage="packed", slack_rows=3)


def posed(case: Case) -> PosedCase:
    return PosedCase(case, CPU)


@pytest.mark.parametrize("case", [ask("mixed", FULL, SHARED, query=PACKED), quantised("extend", SCALED, query=PACKED)])
def test_a_packed_query_is_a_slice_beside_the_keys_and_values_of_its_tokens(case: Case) -> None:
    logical = make_logical(case)
    batch = assemble(case, place(case), logical, CPU)
    for index, (layer, own) in enumerate(zip(batch.layers, logical.layers, strict=True)):
        geometry = case.layers[index]
        heads, dim = geometry.num_qo_heads, geometry.head_dim
        assert layer.q.stride() == ((heads + 2 * geometry.num_kv_heads) * dim, dim, 1)
        assert torch.equal(layer.q[: batch.num_rows], own.q)
        assert len(layer.q) == batch.num_rows + 3
        whole = layer.q.as_strided((len(layer.q), layer.q.stride(0)), (layer.q.stride(0), 1))
        first = case.requests[0]
        key = own.k[first.prefix_len].float() * geometry.k_scale
        value = own.v[first.prefix_len].float() * geometry.v_scale
        assert torch.equal(whole[0, heads * dim :], torch.cat([key, value]).flatten().to(whole.dtype))
        assert not whole[batch.num_rows :, heads * dim :].any()


def test_rows_behind_the_last_request_hold_other_queries() -> None:
    case = ask("decode", query=QuerySide(slack_rows=5), padding_rows=1)
    batch = posed(case).batch
    (layer,) = batch.layers
    assert batch.num_rows == 4
    assert layer.q.is_contiguous()
    assert torch.equal(layer.q[4:], -layer.q[[0, 1, 2, 3, 0]])
    assert int(batch.qo_indptr[-1]) == batch.num_rows


def test_a_sliced_table_has_its_own_rows_at_the_distance_of_the_wider_one() -> None:
    case = ask("decode", paging=Paging(page_size=8, table_slack=2))
    layout = place(case)
    table = assemble(case, layout, make_logical(case), CPU).block_tables
    assert torch.equal(table, layout.block_tables)
    assert table.stride() == (layout.block_tables.shape[1] + 2, 1)


def test_keys_alone_are_padded_in_unlike_storage() -> None:
    (cache,) = posed(ask("decode", paging=Paging(page_size=8, storage="unlike"))).batch.caches
    assert cache.v.is_contiguous()
    assert cache.k.stride(0) > cache.v.stride(0)
    assert cache.k.stride()[1:] == cache.v.stride()[1:]


def test_the_hint_is_the_context_or_the_longest_request() -> None:
    assert posed(ask("decode")).batch.max_seq_len == 64
    assert posed(ask("decode", query=QuerySide(context_len=2**20))).batch.max_seq_len == 2**20
    assert posed(ask("decode", query=QuerySide(context_len=10))).batch.max_seq_len == 64


def test_slack_rows_are_guards_that_a_run_must_leave_alone() -> None:
    batch = posed(ask("decode", query=QuerySide(slack_rows=2))).batch
    target = make_target(batch, 0, lse=True)
    assert target.out.shape == batch.layers[0].q.shape
    ReferenceBackend().prepare(batch).run(0, target.out, target.lse)
    assert target.inspect() == (0, True)
    target.out[-1, 0, 0] = 0.0
    assert target.inspect() == (0, False)
    target.reset()
    assert target.unwritten == target.elements


def test_the_memory_of_a_graph_keeps_the_strides_of_the_query() -> None:
    batch = posed(ask("decode", query=PACKED)).batch
    static = own_memory(batch)
    assert static.layers[0].q.stride() == batch.layers[0].q.stride()
    assert torch.equal(static.layers[0].q, batch.layers[0].q)


@pytest.mark.parametrize("mistake", QUERY_ROWS, ids=lambda mistake: mistake.name)
def test_a_case_without_the_trait_has_nothing_to_mistake(mistake: object) -> None:
    plain, both = posed(ask("verify")), posed(ask("verify", query=PACKED))
    apply = mistake.apply  # type: ignore[attr-defined]
    assert apply(plain.scene(0, 1)) is None
    assert apply(both.scene(0, 1)) is not None
