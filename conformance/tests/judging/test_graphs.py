"""The parts of clause 16 that need no GPU: the shorter batch, and the memory that replays share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from attnconf.backends.protocol import Promises
from attnconf.backends.triton import make
from attnconf.cases.case import Case, Layer, Paging
from attnconf.cases.request import Request
from attnconf.judging.checks.graphs import replayed
from attnconf.judging.checks.replays import fewer_live, other_lengths, query_lens, shorter
from attnconf.judging.checks.static_memory import load, own_memory
from attnconf.judging.execution import same_bits
from attnconf.judging.posed import PosedCase
from attnconf.judging.trial import Trial
from attnconf.mutants.registry import mutant_named
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
        posed, short = PosedCase(given, CPU), PosedCase(shorter(given), CPU).batch
        static = own_memory(short, posed)
        where = [tensor.data_ptr() for _, tensor in static.tensors()]
        for batch in (posed.batch, short):
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
    loaded = load(own_memory(other, long), long.batch)
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


DRAFTS = (Request(prefix_len=40, new_tokens=4), Request(prefix_len=9, new_tokens=4), Request(new_tokens=4))
RAGGED = (Request(prefix_len=40, new_tokens=5), Request(new_tokens=0), Request(prefix_len=9, new_tokens=3))


def verify(*requests: Request, **fields: object) -> Case:
    return Case.model_validate({"mode": "verify", "layers": (FULL, SLIDING), "requests": requests, **fields})


@pytest.mark.parametrize("seed", range(6))
def test_fewer_live_requests_have_padding_in_the_place_of_the_others(seed: int) -> None:
    for given in (case().model_copy(update={"seed": seed}), verify(*DRAFTS, seed=seed, padding_rows=1)):
        fewer = fewer_live(given, empty_kv=True)
        assert fewer is not None
        assert Case.model_validate(fewer.model_dump()) == fewer
        assert 0 < len(fewer.requests) < len(given.requests)
        assert query_lens(fewer) == query_lens(given)
        assert fewer.padding_keys == 0
        over_null = fewer_live(case().model_copy(update={"seed": seed}), empty_kv=False)
        assert over_null is not None
        assert over_null.padding_keys == 1


def test_what_fewer_requests_cannot_keep_is_not_asked() -> None:
    assert fewer_live(verify(*RAGGED), empty_kv=True) is None  # padding brings as many query tokens as the longest
    assert fewer_live(verify(DRAFTS[0]), empty_kv=True) is None
    forked = DRAFTS[1].model_copy(update={"tree": (-1, 0, 0, 0)})
    assert fewer_live(verify(DRAFTS[0], forked), empty_kv=True) is None  # the other batch has no tree


@pytest.mark.parametrize("seed", range(6))
def test_other_lengths_are_at_most_those_of_the_capture(seed: int) -> None:
    forked = Request(prefix_len=40, new_tokens=5, tree=(-1, -1, 0, 0, 1))
    for given in (
        case().model_copy(update={"seed": seed}),
        verify(*DRAFTS, seed=seed, padding_rows=1),
        verify(*RAGGED, seed=seed),
        verify(Request(prefix_len=3, new_tokens=9), seed=seed),
        verify(forked, DRAFTS[1], seed=seed),
    ):
        other = other_lengths(given)
        assert other is not None
        assert Case.model_validate(other.model_dump()) == other
        captured, asked = query_lens(given), query_lens(other)
        assert asked != captured
        assert all(tokens <= most for tokens, most in zip(asked, captured, strict=False))
    assert other_lengths(verify(Request(prefix_len=3, new_tokens=2), seed=seed)) is None
    assert other_lengths(verify(Request(prefix_len=3, new_tokens=2, tree=(-1, -1)), seed=seed)) is None
    assert other_lengths(case().model_copy(update={"requests": (Request(prefix_len=9),)})) is None


def test_a_batch_with_fewer_requests_leaves_empty_ones_behind() -> None:
    given = verify(*DRAFTS)
    fewer = verify(DRAFTS[0].model_copy(update={"new_tokens": 2}))
    static = own_memory(PosedCase(given, CPU).batch, PosedCase(fewer, CPU))
    loaded = load(static, PosedCase(fewer, CPU).batch)
    assert loaded.q_lens == (2, 0, 0)
    assert loaded.kv_lens == (42, 0, 0)
    assert loaded.qo_indptr.tolist() == [0, 2, 2, 2]
    assert loaded.seq_lens.tolist() == [42, 0, 0]
    assert int(loaded.block_tables[1:].abs().sum()) == 0


@pytest.mark.parametrize("given", [case(), verify(*DRAFTS, padding_rows=1), verify(*RAGGED)], ids=["1", "4", "5"])
def test_a_right_backend_replays_over_other_requests_right(given: Case) -> None:
    backend = make(detect())
    for seed in (0, 1):
        trial = Trial(PosedCase(given.model_copy(update={"seed": seed}), CPU), backend, detect())
        assert [replayed(trial, layer, _interpreted) for layer in range(2)] == [[], []]


def _wrong(name: str, given: Case) -> tuple[str, ...]:
    backend = mutant_named(name).make(detect())
    found = replayed(Trial(PosedCase(given, CPU), backend, detect()), 0, _interpreted)
    assert {failure.clause for failure in found} <= {16}
    return tuple(failure.summary for failure in found)


def test_lengths_that_stay_behind_the_live_requests_show_in_their_rows() -> None:
    (said,) = _wrong("graph-keeps-count", case())
    assert said == (
        "captured over one batch and replayed over one with fewer live requests: a row over no key is not all zeros"
    )


def test_query_lengths_that_stay_show_in_rows_behind_and_in_those_of_drafts() -> None:
    (said,) = _wrong("graph-keeps-query-lengths", case())
    assert said.endswith("one with other query lengths: rows behind the last request's were written")
    assert _wrong("graph-keeps-query-lengths", verify(*DRAFTS))


def test_other_query_lengths_are_asked_of_those_who_promise_them() -> None:
    plain = mutant_named("graph-keeps-query-lengths").make(detect())
    kept = type("Kept", (type(plain),), {"promises": Promises(lse="natural", cuda_graph=True)})
    plain.__class__ = kept
    assert replayed(Trial(PosedCase(case(), CPU), plain, detect()), 0, _interpreted) == []


def test_answers_of_8_bits_are_replayed_though_cuda_has_no_any_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    right = torch.Tensor.any

    def as_on_cuda(self: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        if self.dtype in {torch.float8_e4m3fn, torch.float8_e5m2}:
            raise NotImplementedError(f'"or_cuda" not implemented for {self.dtype}')
        return right(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "any", as_on_cuda)
    given = Case(
        mode="verify",
        q_dtype="float8_e4m3fn",
        kv_dtype="float8_e4m3fn",
        out_dtype="float8_e4m3fn",
        layers=(FULL.model_copy(update={"out_scale": 0.015625}),),
        requests=(Request(prefix_len=5, new_tokens=4), Request(prefix_len=9, new_tokens=2)),
        padding_rows=1,
    )
    trial = Trial(PosedCase(given, CPU), make(detect()), detect())
    assert replayed(trial, 0, _interpreted) == []
