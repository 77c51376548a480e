"""Clause 17 asks another kernel the same question: it is judged by that kernel's own profile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import torch

from attnconf.backends.protocol import Promises
from attnconf.backends.reference import ReferenceBackend
from attnconf.cases.case import Case, Layer, Paging
from attnconf.cases.inputs.batch import BatchRow
from attnconf.cases.inputs.storage import by_token
from attnconf.cases.request import Request
from attnconf.judging.checks import consistency
from attnconf.judging.checks.merged import mergeable, merged_shards, sharded
from attnconf.judging.checks.shards import pools_of_shards
from attnconf.judging.execution import same_bits
from attnconf.judging.posed import PosedCase
from attnconf.judging.result import Outcome
from attnconf.judging.run import run_case
from attnconf.judging.trial import Trial
from attnconf.platforms import Platform
from attnconf.precision import NumericsProfile

if TYPE_CHECKING:
    from attnconf.backends.protocol import Prepared
    from attnconf.cases.case import Mode
    from attnconf.cases.inputs.batch import Batch
    from attnconf.cases.shape import KernelShape

LAYER = Layer(kind="full", num_qo_heads=2, num_kv_heads=1, head_dim=16, sm_scale=0.25)
HALF = 1 + 2.0**-12


@dataclass
class Coarse(ReferenceBackend):
    """Its kernel of one mode keeps P in 16 bits, and says so or not."""

    coarse: Mode
    declared: bool

    def numerics(self, shape: KernelShape) -> NumericsProfile:
        return NumericsProfile(p="float16" if self.declared and shape.mode == self.coarse else "float32")

    def prepare(self, batch: Batch) -> Prepared:
        exact, coarse = super().prepare(batch), batch.mode == self.coarse

        class Run:
            def run(self, layer: int, out: torch.Tensor, lse: torch.Tensor | None) -> str:
                kernel = exact.run(layer, out, lse)
                if coarse:
                    out.mul_(HALF)
                return kernel

        return Run()


@pytest.mark.parametrize(
    ("mode", "coarse", "tokens"), [("decode", "extend", 1), ("extend", "decode", 5), ("verify", "extend", 3)]
)
@pytest.mark.parametrize("declared", [True, False])
def test_each_kernel_is_judged_by_its_own_profile(mode: Mode, coarse: Mode, tokens: int, *, declared: bool) -> None:
    case = Case(
        mode=mode,
        q_dtype="float32",
        kv_dtype="float32",
        layers=(LAYER,),
        requests=(Request(prefix_len=50, new_tokens=tokens),),
    )
    backend = Coarse(coarse, declared)
    result = run_case(case, backend, Platform(), torch.device("cpu"), choose=lambda _: (consistency.CHECK,))
    assert result.layers[0].outcome is (Outcome.PASSED if declared else Outcome.FAILED)


@pytest.mark.parametrize("mode", ["decode", "extend"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_layers_that_ask_for_different_requests_get_their_own(mode: Mode, seed: int) -> None:
    sliding = LAYER.model_copy(update={"kind": "sliding", "window_left": 30})
    case = Case(
        mode=mode,
        q_dtype="float32",
        kv_dtype="float32",
        layers=(LAYER, sliding),
        requests=tuple(
            Request(prefix_len=prefix, new_tokens=1 if mode == "decode" else tokens)
            for prefix, tokens in ((5, 3), (50, 4), (9, 2))
        ),
        seed=seed,
    )
    result = run_case(case, ReferenceBackend(), Platform(), torch.device("cpu"), choose=lambda _: (consistency.CHECK,))
    assert [layer.outcome for layer in result.layers] == [Outcome.PASSED, Outcome.PASSED]


def trial_of(backend: Any, *requests: Request, **changes: Any) -> Trial:  # noqa: ANN401 - a backend, and any field
    fields = {"mode": "decode", "q_dtype": "float32", "kv_dtype": "float32", "layers": (LAYER,), "requests": requests}
    return Trial(PosedCase(Case.model_validate(fields | changes), torch.device("cpu")), backend, Platform())


SHORT = (Request(prefix_len=2), Request(prefix_len=44), Request(), Request(prefix_len=30))


@pytest.mark.parametrize("layout", ["NHD", "HND"])
def test_a_shard_holds_every_so_manieth_token_of_each_request(layout: str) -> None:
    trial = trial_of(ReferenceBackend(), *SHORT, paging=Paging(page_size=4, layout=layout), seed=3)
    rows = [BatchRow(index, one.new_tokens - 1, one.new_tokens, one.kv_len) for index, one in enumerate(SHORT)]
    batch = sharded(trial, 0, rows, 4)
    assert batch.kv_lens == tuple(len(range(shard, one.kv_len, 4)) for shard in (3, 2, 1, 0) for one in SHORT)
    assert batch.seq_lens.tolist() == list(batch.kv_lens)
    assert same_bits(batch.layers[0].q, trial.posed.batch.layers[0].q.repeat(4, 1, 1))
    problem = trial.posed.problem(0, 1)
    k = by_token(batch.caches[0].k, batch.kv_layout)
    for place, shard in enumerate((3, 2, 1, 0)):
        row = place * len(SHORT) + 1
        pages, tokens = batch.block_tables[row].long(), torch.arange(batch.kv_lens[row])
        assert torch.equal(k[pages[tokens // 4], tokens % 4], problem.k[shard::4])
    used = {int(page) for row in batch.block_tables for page in row if page}
    assert len(used) == sum(-(-length // 4) for length in batch.kv_lens)


@pytest.mark.parametrize("requests", [SHORT, (Request(prefix_len=400), *SHORT), (Request(prefix_len=9),) * 80])
def test_the_memory_of_shards_is_counted(requests: tuple[Request, ...]) -> None:
    trial = trial_of(ReferenceBackend(), *requests, paging=Paging(page_size=16), seed=5)
    rows = [BatchRow(index, 0, 1, one.kv_len) for index, one in enumerate(requests[:64])]
    for count in (2, 8, min(16, 1 + min(one.kv_len for one in requests))):
        made = len(sharded(trial, 0, rows, count).caches[0].k)
        assert made <= pools_of_shards(trial.case) * len(trial.posed.batch.caches[0].k)


@pytest.mark.parametrize("seed", range(6))
def test_shards_of_a_right_backend_are_the_whole(seed: int) -> None:
    for layer in (LAYER, LAYER.model_copy(update={"logits_soft_cap": 5.0})):
        for mode, requests in (("decode", SHORT), ("extend", (Request(prefix_len=9, new_tokens=5), *SHORT))):
            trial = trial_of(ReferenceBackend(), *requests, mode=mode, seed=seed, layers=(layer,))
            assert merged_shards(trial, 0, 0) is None


def test_an_lse_that_is_wrong_over_some_of_the_keys_shows_in_merged_shards() -> None:
    class Wrong(ReferenceBackend):
        def prepare(self, batch: Batch) -> Prepared:
            exact = super().prepare(batch)

            class Run:
                def run(self, layer: int, out: torch.Tensor, lse: torch.Tensor | None) -> str:
                    kernel = exact.run(layer, out, lse)
                    for row, length in enumerate(batch.kv_lens):
                        if lse is not None and length == 26:  # the first of two shards of 51 keys
                            lse[row].add_(0.01)
                    return kernel

            return Run()

    failure = merged_shards(trial_of(Wrong(), Request(prefix_len=50)), 0, 0)
    assert failure is not None
    assert "shards by token, merged through the LSE" in failure.summary


def test_a_request_that_a_shard_has_no_key_of_is_asked_of_those_who_promise_it() -> None:
    class Careful(ReferenceBackend):
        promises = Promises(lse="natural", empty_kv=False)

        def prepare(self, batch: Batch) -> Prepared:
            assert min(batch.kv_lens) > 0
            return super().prepare(batch)

    assert merged_shards(trial_of(Careful(), *SHORT), 0, 0) is None
    sinks = LAYER.model_copy(update={"sinks": True})
    assert not mergeable(trial_of(ReferenceBackend(), *SHORT, layers=(sinks,)), 0)


@pytest.mark.parametrize("mode", ["decode", "extend", "verify", "mixed"])
def test_rows_over_a_table_that_begins_with_their_window_are_those_of_the_whole(mode: Mode) -> None:
    sliding = LAYER.model_copy(update={"kind": "sliding", "window_left": 9})
    more = Request(prefix_len=40, new_tokens=1 if mode == "decode" else 3)
    requests = (more, Request(prefix_len=25)) if mode == "mixed" else (more,)
    asked: list[tuple[int, ...]] = []

    class Watched(ReferenceBackend):
        def prepare(self, batch: Batch) -> Prepared:
            asked.append(batch.kv_lens)
            return super().prepare(batch)

    trial = trial_of(Watched(), *requests, mode=mode, layers=(sliding,), paging=Paging(page_size=4, hybrid=True))
    assert consistency.CHECK.run(trial, 0) == []
    assert any(len(lens) == 1 and lens[0] < 25 for lens in asked), asked


def test_layers_of_other_windows_get_tables_that_begin_elsewhere() -> None:
    layers = tuple(
        LAYER.model_copy(update={"kind": "sliding", "window_left": window, "kv_owner": owner})
        for window, owner in ((1, None), (16, 0))
    )
    trial = trial_of(ReferenceBackend(), Request(prefix_len=100), layers=layers, paging=Paging(page_size=8))
    assert [consistency.CHECK.run(trial, layer) for layer in range(2)] == [[], []]
