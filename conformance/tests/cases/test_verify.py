"""Verify steps: ragged, empty and long ones, and the padding of captured ones."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from attnconf.cases.case import Case, Layer, Paging
from attnconf.cases.drawing.draws import Draws
from attnconf.cases.drawing.families import space_of
from attnconf.cases.inputs.assemble import assemble
from attnconf.cases.inputs.layout import place
from attnconf.cases.inputs.logical import make_logical
from attnconf.cases.request import MAX_VERIFY_TOKENS, Request
from attnconf.cases.shape import batch_shape, kernel_shape
from attnconf.judging.effects import effective_features, mistake_units
from attnconf.judging.posed import PosedCase
from attnconf.precision import NumericsProfile

LAYER = Layer(kind="full", num_qo_heads=2, num_kv_heads=1, head_dim=32, sm_scale=0.2)


def step(*tokens: int, **fields: object) -> Case:
    requests = tuple(Request(prefix_len=20, new_tokens=count) for count in tokens)
    return Case.model_validate({"mode": "verify", "layers": (LAYER,), "requests": requests, **fields})


@pytest.mark.parametrize("tokens", [(1, 1), (1,), (0, 0), (2, MAX_VERIFY_TOKENS + 1)])
def test_a_step_has_several_tokens_in_one_request_and_not_too_many_in_any(tokens: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match="mode verify has at most 64 new tokens in every request, and several in"):
        step(*tokens)


def test_a_shape_says_that_requests_differ() -> None:
    for case, ragged in ((step(3, 3), False), (step(3, 1, 0), True), (step(3), False)):
        batch = assemble(case, place(case), make_logical(case), torch.device("cpu"))
        assert kernel_shape(case, 0).ragged is batch_shape(batch, 0).ragged is ragged


@pytest.mark.parametrize(("kv_len", "keys"), [(0, 0), (1, 5)])
def test_padding_brings_as_many_tokens_as_the_longest_request_over_the_null_page(kv_len: int, keys: int) -> None:
    paging = Paging(page_size=2, table_tail="stale")
    case = step(5, 2, padding_rows=2, padding_kv_len=kv_len, paging=paging)
    batch = assemble(case, place(case), make_logical(case), torch.device("cpu"))
    assert batch.q_lens == (5, 2, 5, 5)
    assert batch.kv_lens == (25, 22, keys, keys)
    assert batch.layers[0].q.shape[0] == batch.num_rows == 17
    assert not batch.block_tables[2:, : -(-keys // 2)].any()
    assert batch.max_q_len == 5


def test_taking_the_first_requests_drafts_for_all_shows() -> None:
    posed = PosedCase(step(4, 2, 7), torch.device("cpu"))
    profile = NumericsProfile(p="bfloat16")
    units = mistake_units((posed.scene(0, one), posed.answer(0, one, profile)) for one in range(3))
    assert "ragged" in effective_features(units)


def test_draws_have_ragged_empty_and_long_steps_and_their_padding() -> None:
    cases = Draws(space_of("verify", "llama3-8b", accelerated=False, max_kv_len=100), 3, 40).cases
    tokens = [[request.new_tokens for request in case.requests] for case in cases]
    assert any(len(set(counts)) > 1 for counts in tokens)
    assert any(0 in counts for counts in tokens)
    assert max(map(max, tokens)) == MAX_VERIFY_TOKENS
    assert any(case.padding_rows and case.padding_kv_len for case in cases)
