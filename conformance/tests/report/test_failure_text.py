"""The failure message, to the letter for one case, and its parts for a real broken backend."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
import torch

from attnconf.backends.reference import ReferenceBackend
from attnconf.cases.case import Case, Layer, Paging
from attnconf.cases.inputs.batch import Batch
from attnconf.cases.request import Request
from attnconf.judging.checks.catalogue import all_checks
from attnconf.judging.result import CaseResult, Failure, LayerResult, Outcome, Place
from attnconf.judging.run import run_case
from attnconf.judging.units import units_text
from attnconf.platforms import Platform
from attnconf.report.failure import render_failure

SLIDING = Layer(kind="sliding", window_left=15, num_qo_heads=4, num_kv_heads=2, head_dim=16, sm_scale=0.25)
CASE = Case(
    model="gemma4-e2b@tp4",
    mode="decode",
    layers=(SLIDING, SLIDING.model_copy(update={"kv_owner": 0})),
    requests=(Request(prefix_len=40),),
    paging=Paging(hybrid=True),
    seed=1,
)


def make(*layers: LayerResult, case: Case = CASE) -> CaseResult:
    return CaseResult(case=case, backend="triton", evidence="kernel", layers=layers)


WRONG = LayerResult(
    layer=1,
    outcome=Outcome.FAILED,
    kernel="split-kv",
    worst_units=148.2,
    failures=(
        Failure(
            clause=2,
            check="numerics",
            summary="out = 0.5, but should be -1.25 (3 of 4 rows of the request are wrong)",
            layer=1,
            units=148.2,
            place=Place(layer=1, request=0, token=0, head=3, dim=7, page=2, slot=8),
            keys="key 24 seems read too much; positions 25 to 40 are visible",
            suspicion="one key too many at the old end: window_left taken as W",
        ),
        Failure(clause=10, check="outputs_written", summary="memory around the output was written", layer=1),
        Failure(
            clause=3,
            check="numerics",
            summary="LSE 1, but should be 2",
            layer=1,
            units=math.inf,
            place=Place(layer=1, request=0, token=0, head=1, dim=-1),
        ),
    ),
)

TEXT = """\
triton fails case 0123456789ab of model gemma4-e2b@tp4 (mode decode, q bfloat16, kv bfloat16, kernel evidence)

layer 1: sliding-shared, window_left 15, 4 query and 2 KV heads, head_dim 16, kernel split-kv
  clause 2 (window), check numerics: out = 0.5, but should be -1.25 (3 of 4 rows of the request are wrong)
    error:  148 \u00d7 the bound
    at:     request 0, token 0, head 3, dim 7
    memory: layer 0's cache in the swa pool, page 2, slot 8
    keys:   key 24 seems read too much; positions 25 to 40 are visible
    bug:    one key too many at the old end: window_left taken as W
  clause 10 (read-only), check outputs_written: memory around the output was written
  clause 3 (scores), check numerics: LSE 1, but should be 2
    error:  inf \u00d7 the bound
    at:     request 0, token 0, head 1, the LSE

case:   Case(model='gemma4-e2b@tp4', mode='decode', layers=(Layer(kind='sliding', window_left=15, num_qo_heads=4, \
num_kv_heads=2, head_dim=16, sm_scale=0.25), Layer(kind='sliding', window_left=15, num_qo_heads=4, num_kv_heads=2, \
head_dim=16, sm_scale=0.25, kv_owner=0)), requests=(Request(prefix_len=40),), paging=Paging(hybrid=True), seed=1)
replay: attnconf replay case.json --backend triton"""


def test_the_message_is_this_text() -> None:
    passed = LayerResult(layer=0, outcome=Outcome.PASSED, kernel="split-kv", worst_units=0.4)
    text = render_failure(make(passed, WRONG), "attnconf replay case.json --backend triton")
    assert text == TEXT.replace("0123456789ab", CASE.id)


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (Outcome.CRASHED, "crashed: RuntimeError: boom"),
        (Outcome.OOM, "ran out of memory: RuntimeError: boom"),
        (Outcome.REFUSED, "refused without having declared it: RuntimeError: boom"),
    ],
)
def test_other_endings_are_one_line_under_clause_twenty(outcome: Outcome, said: str) -> None:
    lines = render_failure(
        make(LayerResult(layer=0, outcome=outcome, reason="RuntimeError: boom")), "replay"
    ).splitlines()
    assert lines[2] == "layer 0: sliding, window_left 15, 4 query and 2 KV heads, head_dim 16"
    assert lines[3] == f"  clause 20 (refusal): {said}"
    assert lines[4] == ""


def test_layers_that_did_not_fail_are_left_out() -> None:
    fine = LayerResult(layer=0, outcome=Outcome.UNSUPPORTED, reason="no")
    assert "layer 0" not in render_failure(make(fine, replace(WRONG, failures=WRONG.failures[1:2])), "replay")


@pytest.mark.parametrize(
    ("units", "text"),
    [(1.004, "1"), (1.2345, "1.23"), (148.2, "148"), (154_925.3, "154925"), (math.inf, "inf"), (2e30, "2e+30")],
)
def test_units_have_three_digits(units: float, text: str) -> None:
    assert units_text(units) == text


class OneMore(ReferenceBackend):
    name = "one-more"

    def prepare(self, batch: Batch) -> object:
        layers = tuple(
            replace(layer, geometry=layer.geometry.model_copy(update={"window_left": layer.geometry.window_left + 1}))
            if layer.geometry.window_left >= 0
            else layer
            for layer in batch.layers
        )
        return super().prepare(replace(batch, layers=layers))


def test_a_real_failure_says_clause_units_place_memory_keys_bug_case_and_replay() -> None:
    result = run_case(CASE, OneMore(), Platform(), torch.device("cpu"), choose=all_checks)
    text = render_failure(result, "attnconf replay x.json")
    assert text.count("clause 2 (window), check numerics: out = ") == 2
    assert len(re.findall(r"^    error:  \d{2,} \u00d7 the bound$", text, flags=re.MULTILINE)) == 2
    assert len(re.findall(r"^    at:     request 0, token 0, head \d, dim \d+$", text, flags=re.MULTILINE)) == 2
    assert (
        len(re.findall(r"^    memory: layer 0's cache in the swa pool, page \d+, slot 8$", text, flags=re.MULTILINE))
        == 2
    )
    assert text.count("    keys:   key 24 seems read too much; positions 25 to 40 are visible") == 2
    assert text.count("window_left taken as W") == 2
    assert eval(re.search(r"^case: +(.+)$", text, flags=re.MULTILINE)[1]) == CASE  # noqa: S307 - that it can be pasted
    assert text.endswith("\nreplay: attnconf replay x.json")
