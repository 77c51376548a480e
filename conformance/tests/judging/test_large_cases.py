"""Large cases: which rows and heads have witnesses, and in which requests mistakes are looked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import torch

from attnconf.backends.reference import ReferenceBackend
from attnconf.cases.case import Case, Layer, Paging
from attnconf.cases.inputs.witnesses import plan_probes, probed_rows
from attnconf.cases.request import Request
from attnconf.judging.checks.catalogue import all_checks
from attnconf.judging.effects import MOST_SCENES, scenes_to_try
from attnconf.judging.result import Outcome
from attnconf.judging.run import run_case
from attnconf.platforms import Platform

if TYPE_CHECKING:
    from attnconf.backends.protocol import Prepared
    from attnconf.cases.inputs.batch import Batch

HEADS = {"num_qo_heads": 8, "num_kv_heads": 2, "head_dim": 64, "sm_scale": 0.125}
FULL = Layer(kind="full", **HEADS)
SLIDING = Layer(kind="sliding", window_left=511, **HEADS)


def prefill(tokens: int, prefix: int = 0) -> Case:
    return Case(mode="extend", layers=(SLIDING, FULL), requests=(Request(prefix_len=prefix, new_tokens=tokens),))


def decode(count: int) -> Case:
    requests = tuple(Request(prefix_len=40 + 7 * index) for index in range(count))
    return Case(mode="decode", layers=(FULL,), requests=requests, paging=Paging(page_size=16))


def test_every_row_and_head_of_a_small_case_has_witnesses() -> None:
    case = prefill(24, prefix=600)
    assert probed_rows(case, 0, 0) == list(range(23, -1, -1))
    assert {(probe.row, probe.head) for probe in plan_probes(case, 0)} == {(r, h) for r in range(24) for h in range(8)}


@pytest.mark.parametrize("tokens", [512, 2048, 8192])
def test_of_a_long_prefill_both_ends_and_borders_have_witnesses(tokens: int) -> None:
    rows = probed_rows(prefill(tokens).model_copy(update={"seed": 5}), 0, 0)
    assert rows[0] == tokens - 1
    assert rows[-1] == 0
    assert any(row + 1 in rows and (row + 1) % 16 == 0 for row in rows)
    assert 16 <= len(rows) <= 64
    assert len(set(rows)) == len(rows)


def test_each_request_of_a_large_batch_has_witnesses_and_each_head_somewhere() -> None:
    probes = plan_probes(decode(256), 0)
    assert {probe.request for probe in probes} == set(range(256))
    assert {probe.head for probe in probes} == set(range(8))
    assert {probe.head // 4 for probe in probes if probe.request == 100} == {0, 1}
    assert len({(probe.request, probe.head) for probe in probes}) == 512


def test_mistakes_are_looked_for_in_a_few_requests_of_each_kind() -> None:
    case = decode(40)
    shared = (*case.requests[:-1], Request(prefix_len=200, shares_with=0, shared_pages=1))
    tried = scenes_to_try(case.model_copy(update={"requests": shared}))
    assert len(tried) == MOST_SCENES
    assert 39 in tried  # the only one that shares pages
    sizes = [shared[index].kv_len for index in tried]
    assert sizes == sorted(sizes)
    assert scenes_to_try(decode(3)) == [0, 1, 2]


@pytest.mark.parametrize("case", [decode(70), prefill(700, prefix=5)], ids=["decode", "prefill"])
def test_a_right_backend_passes_a_large_case_with_every_check_and_its_features_count(case: Case) -> None:
    result = run_case(case, ReferenceBackend(), Platform(), torch.device("cpu"), choose=all_checks)
    assert {layer.outcome for layer in result.layers} == {Outcome.PASSED}
    assert all({"causal", "paging"} & set(layer.effective) for layer in result.layers)
    if case.mode == "extend":
        assert "window" in result.layers[0].effective


class Dropping(ReferenceBackend):
    """Answers one request with its neighbour's row, in one head, where the whole batch is asked."""

    def __init__(self, request: int, requests: int) -> None:
        super().__init__()
        self.request, self.requests = request, requests

    def prepare(self, batch: Batch) -> Prepared:
        return _Dropped(super().prepare(batch), self.request if batch.num_rows == self.requests else None)


@dataclass
class _Dropped:
    right: Prepared
    request: int | None

    def run(self, layer: int, out: torch.Tensor, lse: torch.Tensor | None) -> str:
        kernel = self.right.run(layer, out, lse)
        if self.request is not None:
            out[self.request, 3] = out[self.request - 1, 3]
        return kernel


@pytest.mark.parametrize("request_index", [0, 33, 69])
def test_one_wrong_request_of_a_large_batch_is_found_and_named(request_index: int) -> None:
    result = run_case(decode(70), Dropping(request_index, 70), Platform(), torch.device("cpu"), explain=False)
    place = result.failures[0].place
    assert place is not None
    assert (place.request, place.head) == (request_index, 3)
