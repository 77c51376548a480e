"""The oracle against closed forms, torch's attention in float64, and a second evaluation in plain Python."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnconf import oracle
from attnconf.cases.inputs.poison import bits
from attnconf.oracle import parts
from attnconf.oracle.attention import attend, attend_all, solve
from attnconf.oracle.packed import scaled
from attnconf.oracle.problem import Answer, Problem

if TYPE_CHECKING:
    from attnconf.oracle.blocks import Block

TIGHT = 1e-12


def make(  # noqa: PLR0913
    rows: int,
    keys: int,
    *,
    qo: int = 2,
    kv: int = 1,
    dim: int = 4,
    value_dim: int | None = None,
    window_left: int = -1,
    sm_scale: float = 0.5,
    soft_cap: float | None = None,
    sinks: bool = False,
    causal: bool = True,
    window_right: int = -1,
    ahead: int = 0,
    spans: tuple[tuple[int, int], ...] = (),
    chunk_size: int | None = None,
    start: int = 0,
    tree: tuple[int, ...] = (),
    seed: int = 0,
) -> Problem:
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=rng, dtype=torch.float64)

    tree = tree[:rows] if len(tree) >= rows else ()
    depth = [0] * rows
    for token, parent in enumerate(tree):
        depth[token] = depth[parent] + 1 if parent >= 0 else 0
    first = start + keys - rows
    places = torch.tensor([first + one for one in depth], dtype=torch.int64) if tree else None
    return Problem(
        tree=tree,
        tree_start=first,
        tokens=tuple(range(rows)) if tree else (),
        q=2 * normal(rows, qo, dim),
        k=normal(keys, kv, dim),
        v=normal(keys, kv, value_dim or dim),
        positions=torch.arange(first, start + keys) if places is None else places,
        kv_head_of=torch.arange(qo) // (qo // kv),
        window_left=window_left,
        sm_scale=sm_scale,
        soft_cap=soft_cap,
        sinks=normal(qo) if sinks else None,
        causal=causal,
        window_right=window_right,
        ahead=ahead,
        spans=spans,
        chunk_size=chunk_size,
        start=start,
    )


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one, other, rtol=TIGHT, atol=TIGHT)


def seen(problem: Problem, i: int, j: int) -> bool:
    """Say whether row ``i`` sees key ``j``, by the definition."""
    position, there = int(problem.positions[i]), problem.start + j
    if problem.tree and problem.causal and there >= problem.tree_start:
        steps, token = 0, i
        while token >= 0 and token != there - problem.tree_start:
            steps, token = steps + 1, problem.tree[token]
        if token < 0:
            return False
        there = position - steps
    together = any(position in range(*span) and there in range(*span) for span in problem.spans)
    behind = there <= position + (0 if problem.tree else problem.ahead) or together
    ahead = problem.window_right == -1 or there - position <= problem.window_right
    size = problem.chunk_size or 10**6
    return (
        (behind if problem.causal else ahead)
        and (problem.window_left == -1 or there >= position - problem.window_left)
        and there // size >= position // size
    )


def in_plain_python(problem: Problem) -> Answer:
    """Evaluate the same definition with loops, math.fsum and no shared code: numerator and denominator apart."""
    rows, heads, dim = *problem.q.shape[:2], problem.v.shape[2]
    out = torch.zeros((rows, heads, dim), dtype=torch.float64)
    lse = torch.zeros(rows, heads, dtype=torch.float64)
    q, k, v = problem.q.tolist(), problem.k.tolist(), problem.v.tolist()
    for i in range(rows):
        for h in range(heads):
            g = int(problem.kv_head_of[h])
            terms: list[tuple[float, list[float]]] = []
            for j in range(len(k)):
                if not seen(problem, i, j):
                    continue
                x = problem.sm_scale * math.fsum(a * b for a, b in zip(q[i][h], k[j][g], strict=True))
                if problem.soft_cap is not None:
                    x = problem.soft_cap * math.tanh(x / problem.soft_cap)
                terms.append((x, v[j][g]))
            sink = [] if problem.sinks is None else [float(problem.sinks[h])]
            if not terms and not sink:
                lse[i, h] = -math.inf
                continue
            total = math.fsum([*(math.exp(x) for x, _ in terms), *(math.exp(s) for s in sink)])
            lse[i, h] = math.log(total)
            for c in range(dim):
                out[i, h, c] = math.fsum(math.exp(x) * value[c] for x, value in terms) / total
    return Answer(out, lse)


def test_a_zero_query_gives_the_mean_of_the_visible_values() -> None:
    problem = make(3, 7, window_left=2)
    problem.q.zero_()
    answer = attend(problem)
    for row, position in enumerate((4, 5, 6)):
        mean = problem.v[position - 2 : position + 1, 0].mean(dim=0)
        assert close(answer.out[row], mean.expand(2, -1))
    assert close(answer.lse, torch.full((3, 2), math.log(3.0), dtype=torch.float64))


def test_one_key_is_returned_as_it_is() -> None:
    problem = make(1, 1)
    answer = attend(problem)
    assert torch.equal(answer.out[0], problem.v[0].expand(2, -1))
    score = 0.5 * (problem.q[0] * problem.k[0]).sum(dim=1)
    assert close(answer.lse[0], score)


def test_two_keys_by_hand() -> None:
    problem = Problem(
        q=torch.tensor([[[1.0, 0.0]]], dtype=torch.float64),
        k=torch.tensor([[[0.0, 5.0]], [[math.log(3.0), 7.0]]], dtype=torch.float64),
        v=torch.tensor([[[4.0, 0.0]], [[8.0, 4.0]]], dtype=torch.float64),
        positions=torch.tensor([1]),
        kv_head_of=torch.tensor([0]),
        window_left=-1,
        sm_scale=1.0,
    )
    answer = attend(problem)
    assert close(answer.out[0, 0], torch.tensor([7.0, 3.0], dtype=torch.float64))
    assert float(answer.lse[0, 0]) == pytest.approx(math.log(4.0), abs=TIGHT)


def test_a_sink_enters_the_denominator_only() -> None:
    problem = make(1, 1, sinks=True)
    answer = attend(problem)
    score = 0.5 * (problem.q[0] * problem.k[0]).sum(dim=1)
    share = torch.exp(score) / (torch.exp(score) + torch.exp(problem.sinks))
    assert close(answer.out[0], share[:, None] * problem.v[0])
    assert close(answer.lse[0], torch.log(torch.exp(score) + torch.exp(problem.sinks)))


def test_a_soft_cap_bends_the_score_before_the_softmax() -> None:
    problem = make(1, 1, soft_cap=0.25)
    score = 0.5 * (problem.q[0] * problem.k[0]).sum(dim=1)
    assert close(attend(problem).lse[0], 0.25 * torch.tanh(score / 0.25))
    assert float(attend(make(1, 1, soft_cap=0.25, sm_scale=1000.0)).lse.abs().max()) <= 0.25


@pytest.mark.parametrize(("window_left", "seen"), [(-1, 6), (0, 1), (1, 2), (4, 5), (5, 6), (6, 6)])
def test_a_window_shows_window_left_plus_one_keys(window_left: int, seen: int) -> None:
    problem = make(1, 6, window_left=window_left)
    problem.q.zero_()
    answer = attend(problem)
    assert float(answer.lse[0, 0]) == pytest.approx(math.log(seen), abs=TIGHT)
    assert close(answer.out[0, 0], problem.v[6 - seen :, 0].mean(dim=0))


def test_query_heads_read_the_kv_head_that_the_map_says() -> None:
    problem = make(1, 1, qo=6, kv=3)
    for head, source in enumerate((0, 0, 1, 1, 2, 2)):
        assert torch.equal(attend(problem).out[0, head], problem.v[0, source])


def test_a_row_over_no_key_is_zero_with_lse_minus_infinity() -> None:
    problem = make(2, 2)
    empty = Problem(**{**vars(problem), "k": problem.k[:0], "v": problem.v[:0], "positions": torch.tensor([-2, -1])})
    answer = attend(empty)
    assert torch.equal(answer.out, torch.zeros_like(empty.q))
    assert bool(torch.isneginf(answer.lse).all())
    assert not bool(answer.out.isnan().any())


def test_only_the_rows_without_a_key_are_empty() -> None:
    problem = make(2, 2)
    answer = attend(Problem(**{**vars(problem), "positions": torch.tensor([-1, 0])}))
    assert torch.equal(answer.out[0], torch.zeros(2, 4, dtype=torch.float64))
    assert torch.equal(answer.out[1], problem.v[0].expand(2, -1))


def test_no_query_row_gives_no_row() -> None:
    answer = attend(make(0, 3))
    assert answer.out.shape == (0, 2, 4)
    assert answer.lse.shape == (0, 2)


@pytest.mark.parametrize("window_left", [-1, 0, 3, 40])
@pytest.mark.parametrize("causal", [True, False])
def test_torch_attention_in_float64_agrees(window_left: int, causal: bool) -> None:  # noqa: FBT001
    problem = make(9, 33, qo=6, kv=2, dim=8, window_left=window_left, causal=causal, seed=3)
    rows, keys = problem.positions[:, None], torch.arange(33)[None, :]
    mask = keys <= rows if causal else torch.ones(9, 33, dtype=torch.bool)
    if window_left >= 0:
        mask = mask & (keys >= rows - window_left)
    q, k, v = (
        t.transpose(0, 1) for t in (problem.q, problem.k[:, problem.kv_head_of], problem.v[:, problem.kv_head_of])
    )
    wanted = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=problem.sm_scale)
    assert close(attend(problem).out, wanted.transpose(0, 1))


problems = st.builds(
    lambda rows, more, kv, group, **rest: make(rows, rows + more, qo=kv * group, kv=kv, **rest),
    rows=st.integers(0, 4),
    more=st.integers(0, 9),
    kv=st.integers(1, 3),
    group=st.integers(1, 3),
    dim=st.integers(1, 5),
    value_dim=st.sampled_from([None, None, 1, 3, 6]),
    window_left=st.integers(-1, 8),
    sm_scale=st.sampled_from([0.1, 1.0, 3.0]),
    soft_cap=st.sampled_from([None, 0.5, 5.0]),
    sinks=st.booleans(),
    causal=st.booleans(),
    window_right=st.integers(-1, 4),
    ahead=st.sampled_from([0, 0, 1, -1]),
    spans=st.sampled_from([(), ((0, 3),), ((1, 2), (2, 20)), ((4, 9),)]),
    chunk_size=st.sampled_from([None, None, 1, 3, 4]),
    start=st.sampled_from([0, 0, 2]),
    tree=st.sampled_from([(), (), (-1, 0, 0, 1), (-1, -1, -1, 0), (-1, 0, 1, 0)]),
    seed=st.integers(0, 2**31),
)


@given(problems)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_plain_python_agrees(problem: Problem) -> None:
    answer, other = attend(problem), in_plain_python(problem)
    assert close(answer.out, other.out)
    assert torch.allclose(answer.lse, other.lse, rtol=TIGHT, atol=TIGHT)


@given(
    st.lists(problems, min_size=1, max_size=6),
    st.sampled_from([(1, 1, 1), (7, 9, 2), (40, 60, 3), (2**20, 2**20, 512)]),
)
@settings(max_examples=80, deadline=None, derandomize=True)
def test_parts_and_blocks_of_any_size_change_nothing_but_the_last_bits(
    many: list[Problem], limits: tuple[int, int, int]
) -> None:
    shapes = [(one.q.shape[1:], one.v.shape[2]) for one in many]
    many = [one for one, shape in zip(many, shapes, strict=True) if shape == shapes[0]]
    scores, keys, rows = limits
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(parts.MOST_SCORES, "cpu", scores)
        patch.setitem(parts.MOST_KEYS, "cpu", keys)
        patch.setattr(parts, "_ROWS", rows)
        found = attend_all(many)
        seen = torch.zeros(found.lse.shape)
        for solved in solve(many):
            block = solved.block
            block.put(seen, seen.new_ones(solved.lse.shape) + _at(block, seen))
    wanted = [in_plain_python(one) for one in many]
    assert close(found.out, torch.cat([answer.out for answer in wanted]))
    assert torch.allclose(found.lse, torch.cat([answer.lse for answer in wanted]), rtol=TIGHT, atol=TIGHT)
    assert torch.equal(seen, torch.ones_like(seen))  # each row and head was answered once


def _at(block: Block, rows: torch.Tensor) -> torch.Tensor:
    """Return the numbers of ``rows`` [all rows, heads] at the places of a block."""
    found = torch.zeros(len(block.parts), block.q.shape[1], block.visible.shape[2])
    for index, part in enumerate(block.parts):
        begin = 0
        for piece in part.pieces:
            there = rows[piece.out_row : piece.out_row + piece.rows, block.query_heads]
            found[index, :, begin : begin + piece.rows] = there.T
            begin += piece.rows
    return found


@given(problems)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_questions_about_the_same_keys_and_queries_are_asked_together(problem: Problem) -> None:
    several = [
        problem,
        replace(problem, window_left=2),
        replace(problem, sm_scale=0.3, k_scale=2.0, causal=False),
        replace(problem, positions=problem.positions - 1, v_scale=0.25),
    ]
    if problem.sinks is not None:
        several.append(replace(problem, sinks=problem.sinks.flip(0)))
    found = attend_all(several)
    apart = [attend(replace(one, k=one.k.clone(), q=one.q.clone())) for one in several]
    assert close(found.out, torch.cat([answer.out for answer in apart]))
    assert torch.allclose(found.lse, torch.cat([answer.lse for answer in apart]), rtol=TIGHT, atol=TIGHT)
    if problem.q.shape[0]:
        assert len(list(solve(several))) == 1


def test_a_part_that_asks_one_query_twice_stands_beside_one_with_as_many_queries_as_rows() -> None:
    twice, once = make(1, 6, seed=1), make(2, 6, seed=2)
    many = [twice, replace(twice, window_left=2), once]
    assert len(list(solve(many))) == 1
    found, apart = attend_all(many), [attend(one) for one in many]
    assert close(found.out, torch.cat([answer.out for answer in apart]))
    assert close(found.lse, torch.cat([answer.lse for answer in apart]))


@pytest.mark.parametrize("kv_dtype", [torch.bfloat16, torch.float8_e4m3fn])
@pytest.mark.parametrize("mapping", [[0, 0, 1, 1], [1, 0, 1, 0]])
def test_stored_numbers_count_scaled_and_exactly(kv_dtype: torch.dtype, mapping: list[int]) -> None:
    problem = replace(make(3, 9, qo=4, kv=2, dim=8), kv_head_of=torch.tensor(mapping))
    stored = replace(problem, k=problem.k.to(kv_dtype), v=problem.v.to(kv_dtype), k_scale=0.5, v_scale=3.0)
    plain = replace(stored, k=scaled(stored.k, stored.k_scale), v=stored.values, k_scale=1.0, v_scale=1.0)
    assert torch.equal(scaled(stored.k, stored.k_scale), 0.5 * stored.k.double())
    for one, other in ((attend(stored), attend(plain)), (attend_all([stored, plain]), attend_all([plain, plain]))):
        assert close(one.out, other.out)
        assert close(one.lse, other.lse)


def test_the_probabilities_sum_to_one_with_the_sink() -> None:
    for solved in solve([make(3, 20, sinks=True, window_left=5), make(2, 4, sinks=True)]):
        totals = solved.weights.p.sum(dim=3) + solved.weights.sink_mass
        assert close(totals[:, :, :2], torch.ones_like(totals[:, :, :2]))


def test_scores_far_out_of_range_do_not_overflow() -> None:
    problem = make(2, 5, sm_scale=1e5)
    answer = attend(problem)
    assert bool(torch.isfinite(answer.out).all())
    assert bool(torch.isfinite(answer.lse).all())


def test_the_oracle_imports_nothing_that_it_judges() -> None:
    for module in (oracle.attention, oracle.blocks, oracle.parts, oracle.problem):
        imported = [line for line in Path(module.__file__).read_text().splitlines() if "import" in line.split()]
        assert all("attnconf" not in line or "attnconf.oracle" in line for line in imported)


def test_many_problems_of_several_formats_and_scales_are_answered_as_each_alone() -> None:
    """So many that their parts are joined by one gather."""
    plain = make(2, 5, qo=4, kv=2)
    stored = replace(plain, k=plain.k.to(torch.float8_e5m2), v=plain.v.to(torch.float8_e5m2))
    other = replace(stored, k=stored.k.view(torch.float8_e4m3fn), v=stored.v.view(torch.float8_e4m3fn))
    scaled_heads = {"k_scales": (0.5, 2.0), "v_scales": (3.0, 0.25)}
    kinds = [stored, other, replace(stored, **scaled_heads), replace(other, **scaled_heads)]
    many = [
        replace(
            one,
            k=bits(one.k)[: 5 - turn % 2].clone().view(one.k.dtype),
            v=bits(one.v)[: 5 - turn % 2].clone().view(one.v.dtype),
        )
        for turn in range(40)
        for one in kinds
    ]
    together, apart = attend_all(many), [attend(one) for one in many]
    assert close(together.out, torch.cat([answer.out for answer in apart]))


def test_bytes_that_two_problems_share_are_read_in_the_format_of_each() -> None:
    problem = make(3, 9)
    one = replace(problem, k=problem.k.to(torch.float8_e5m2), v=problem.v.to(torch.float8_e5m2))
    other = replace(one, k=one.k.view(torch.float8_e4m3fn), v=one.v.view(torch.float8_e4m3fn))
    together = attend_all([one, other])
    rows = one.q.shape[0]
    assert close(together.out[:rows], attend(one).out)
    assert close(together.out[rows:], attend(other).out)
    assert not close(together.out[:rows], together.out[rows:])
