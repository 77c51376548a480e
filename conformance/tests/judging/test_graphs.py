"""The parts of clause 16 that need no GPU: the shorter batch, and the memory that replays share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from attnconf.backends.triton import make
from attnconf.cases.case import Case, Layer, Paging, Request
from attnconf.judging.checks.graphs import load, own_memory, replayed, shorter
from attnconf.judging.execution import same_bits
from attnconf.judging.posed import PosedCase
from attnconf.judging.trial import Trial
from attnconf.platforms import detect

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.backends.protocol import Prepared
    from attnconf.cases.inputs.batch import Batch

CPU = torch.device("cpu")
FULL = Layer(kind="full", num_qo_heads=2, num_kv_heads=1, head_dim=16, sm_scale=0.25)
SLIDING = FULL.model_copy(update={"kind": "sliding", "window_left": 7})


def case(**paging: object) -> Case:
    return Case(
        mode="decode",
        layers=(FULL, SLIDING),
        requests=(Request(prefix_len=40), Request(prefix_len=33, shares_with=0, shared_pages=1), Request(prefix_len=9)),
        paging=Paging(hybrid=True, **paging),
    )


def test_the_shorter_batch_keeps_query_lengths_and_loses_keys() -> None:
    given = case()
    short = shorter(given)
    assert [r.new_tokens for r in short.requests] == [r.new_tokens for r in given.requests]
    assert [r.kv_len for r in short.requests] == [21, 17, 1]
    assert Case.model_validate(short.model_dump()) == short


def test_loading_a_batch_gives_its_contents_in_the_memory_of_the_other() -> None:
    for storage in ("apart", "interleaved", "padded", "sliced"):
        given = case(storage=storage, layout="HND")
        long, short = PosedCase(given, CPU).batch, PosedCase(shorter(given), CPU).batch
        static = own_memory(short, like=long)
        where = [tensor.data_ptr() for _, tensor in static.tensors()]
        for batch in (long, short):
            loaded = load(static, batch)
            assert [tensor.data_ptr() for _, tensor in loaded.tensors()] == where
            assert loaded.kv_lens == batch.kv_lens
            assert torch.equal(loaded.seq_lens, batch.seq_lens)
            columns = batch.block_tables.shape[1]
            assert torch.equal(loaded.block_tables[:, :columns], batch.block_tables)
            for kept, cache in zip(loaded.caches, batch.caches, strict=True):
                assert kept.k.stride() == cache.k.stride()
                if storage in {"interleaved", "sliced"}:  # K and V of a page stay in one, as a backend may need them
                    assert kept.v.data_ptr() - kept.k.data_ptr() == cache.v.data_ptr() - cache.k.data_ptr()
                assert same_bits(kept.k[: cache.k.shape[0]], cache.k)
                assert same_bits(kept.v[: cache.v.shape[0]], cache.v)


def _interpreted(launch: Callable[[], str]) -> tuple[Callable[[], str], str]:
    """Stand in for a capture: what a graph would replay is run again, over whatever its tensors hold by then."""
    return launch, launch()


class _Stale:
    """A prepared batch that an update does not reach."""

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared
        self.run = prepared.run

    def update(self, batch: Batch) -> None:
        del batch


@pytest.mark.parametrize("storage", ["apart", "sliced"])
def test_a_right_backend_replays_right(storage: str) -> None:
    backend = make(detect())
    given = case(storage=storage, page_size=8)
    trial = Trial(PosedCase(given, CPU), backend, detect())
    assert [replayed(trial, layer, _interpreted) for layer in range(2)] == [[], []]


def test_a_graph_of_a_batch_without_spans_is_replayed_over_one_that_has_some() -> None:
    """An image at the end of a prompt: with half of it the shorter batch has no span left."""
    following = SLIDING.model_copy(update={"spans": True})
    given = Case(
        mode="verify", layers=(following,), requests=(Request(prefix_len=40, new_tokens=3, spans=((40, 43),)),)
    )
    assert PosedCase(shorter(given), CPU).batch.row_spans is None
    trial = Trial(PosedCase(given, CPU), make(detect()), detect())
    assert replayed(trial, 0, _interpreted) == []


@pytest.mark.parametrize("tree", [(-1, 0, 0, 1), (-1, -1, -1, -1)])
def test_a_graph_is_replayed_over_other_trees(tree: tuple[int, ...]) -> None:
    requests = (Request(prefix_len=40, new_tokens=4, tree=tree), Request(prefix_len=9, new_tokens=3))
    given = Case(mode="verify", layers=(FULL, SLIDING), requests=requests, paging=Paging(page_size=8))
    short = shorter(given)
    assert Case.model_validate(short.model_dump()) == short
    assert short.requests[0].tree not in {(), tree}
    long, other = PosedCase(given, CPU), PosedCase(short, CPU).batch
    loaded = load(own_memory(other, like=long.batch), long.batch)
    assert loaded.tree_mask is not None
    assert torch.equal(loaded.tree_mask, long.batch.tree_mask)
    assert not torch.equal(loaded.tree_mask, other.tree_mask)
    trial = Trial(long, make(detect()), detect())
    assert [replayed(trial, layer, _interpreted) for layer in range(2)] == [[], []]


def test_tables_that_are_not_refreshed_show(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = make(detect())
    trial = Trial(PosedCase(case(page_size=8), CPU), backend, detect())
    prepare = backend.prepare
    monkeypatch.setattr(type(backend), "prepare", lambda _self, batch: _Stale(prepare(batch)))
    (failure,) = replayed(trial, 1, _interpreted)
    assert (failure.clause, failure.check) == (16, "cuda_graph")
