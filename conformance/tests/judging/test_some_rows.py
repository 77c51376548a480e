"""Some rows and heads of a question have the answer that they have in the whole one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from attnconf.judging.some_rows import ALL, Heads, Part, last_heads
from attnconf.numerics import bounded_answer
from attnconf.oracle.attention import attend
from attnconf.oracle.problem import Problem
from attnconf.precision import NumericsProfile

QO, KV, ROWS, KEYS, DIM = 6, 3, 5, 9, 4


def make() -> Problem:
    rng = torch.Generator().manual_seed(7)
    q, k, v = (torch.randn(size, generator=rng) for size in ((ROWS, QO, DIM), (KEYS, KV, DIM), (KEYS, KV, DIM)))
    return Problem(
        q=q,
        k=k,
        v=v,
        positions=torch.arange(KEYS - ROWS, KEYS),
        kv_head_of=torch.arange(QO) // (QO // KV),
        window_left=-1,
        sm_scale=0.5,
        sinks=torch.randn(QO, generator=rng),
    )


@pytest.mark.parametrize(
    "mapping", [None, [0, 1, 2, 0, 1, 2], [0, 0, 0, 0, 0, 0], [1, 1, 2, 2, 0, 0], [2, 0, 0, 1, 1, 1]], ids=str
)
@pytest.mark.parametrize("heads", [ALL, Heads(4, 2)], ids=str)
def test_a_part_of_a_question_has_that_part_of_its_answer(mapping: list[int] | None, heads: Heads) -> None:
    right = make()
    wrong = right if mapping is None else replace(right, kv_head_of=torch.tensor(mapping))
    part = Part((0, 3), heads)
    (small,) = part.of_mistakes([wrong], right)
    assert isinstance(small, Problem)
    whole = part.of_answer(attend(wrong))
    assert attend(small).out.shape == whole.out.shape == (2, QO - heads.query, DIM)
    torch.testing.assert_close(attend(small).out, whole.out)
    torch.testing.assert_close(attend(small).lse, whole.lse)


def test_a_bound_is_cut_as_its_answer() -> None:
    bounded = bounded_answer(make(), NumericsProfile(), "float32")
    cut = Part((4,), Heads(4, 2)).of_bounded(bounded)
    assert torch.equal(cut.out_bound, bounded.out_bound[4:, 4:])
    assert torch.equal(cut.lse_bound, bounded.lse_bound[4:, 4:])
    assert torch.equal(cut.answer.lse, bounded.answer.lse[4:, 4:])


def test_the_last_heads_are_as_few_kv_heads_as_serve_two_query_heads() -> None:
    assert last_heads(make()) == Heads(4, 2)
    alike = replace(make(), q=make().q[:, :3], kv_head_of=torch.arange(3))
    assert last_heads(alike) == Heads(1, 1)
    one = replace(make(), k=make().k[:, :1], v=make().v[:, :1], kv_head_of=torch.zeros(QO, dtype=torch.int64))
    assert last_heads(one) == ALL
