"""The error bound: above every right kernel, far below every wrong key. Kernels are simulated here, step by step."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnconf.bounded import changes_by_row, is_within, lse_units, merge_answers, out_units, units_by_row
from attnconf.cases.case import Case, Layer
from attnconf.cases.inputs.logical import Logical, make_logical
from attnconf.cases.request import Request
from attnconf.numerics import bounded_answer
from attnconf.oracle.attention import attend
from attnconf.oracle.problem import Problem
from attnconf.precision import EXACT, UNIT_ROUNDOFF, NumericsProfile

LOG2E = math.log2(math.e)
_PROBES = 4
_HOPPER, _AMPERE = (16, 2), (8, 1)
"""What tensor cores of an H100, and of a B200, and of an A100 add at once, and their bits to spare."""


@dataclass(frozen=True)
class Kernel:
    """A right kernel: online softmax over tiles of keys, in splits whose partial outputs are merged by their LSE."""

    p: str = "float32"
    row_sum: str = "float32"
    partials: str | None = None
    tile: int = 64
    splits: int = 1
    sink_first: bool = True
    query: str | None = None
    p_scale: float = 1.0
    cuts: tuple[int, int] | None = None
    """Products that a tensor core adds at once, and its bits to spare; None where scores are rounded to nearest."""

    @property
    def profile(self) -> NumericsProfile:
        return NumericsProfile(
            p=self.p, row_sum=self.row_sum, partials=self.partials, query=self.query, p_scale=self.p_scale
        )

    def run(self, problem: Problem, out_dtype: str) -> tuple[torch.Tensor, torch.Tensor]:
        count = problem.k.shape[0]
        step = max(1, -(-count // self.splits))
        parts = [
            self._range(problem, start, min(count, start + step), sink=start == 0 and self.sink_first)
            for start in range(0, count, step)
        ]
        if problem.sinks is not None and not self.sink_first:
            lse = problem.sinks.float()[None, :].expand(problem.q.shape[:2])
            parts.append((torch.zeros(problem.q.shape), lse))
        if self.partials is not None:
            parts = [(out.to(getattr(torch, self.partials)).float(), lse) for out, lse in parts]
        top = torch.stack([lse for _, lse in parts]).amax(dim=0)
        top = top.masked_fill(torch.isneginf(top), 0.0)
        weights = [torch.exp(lse - top) for _, lse in parts]
        total = torch.stack(weights).sum(dim=0)
        out = torch.stack([part * w[..., None] for (part, _), w in zip(parts, weights, strict=True)]).sum(dim=0)
        out = torch.where(total[..., None] > 0, out / total[..., None], torch.zeros(()))
        return out.to(getattr(torch, out_dtype)), top + torch.log(total)

    def _range(self, problem: Problem, start: int, stop: int, *, sink: bool) -> tuple[torch.Tensor, torch.Tensor]:
        q = problem.q.float().transpose(0, 1)
        if self.query is not None:
            q = q.to(getattr(torch, self.query)).float()
        k = problem.k[:, problem.kv_head_of].float().transpose(0, 1)
        v = problem.v[:, problem.kv_head_of].float().transpose(0, 1)
        heads, rows, dim = q.shape
        top = torch.full((heads, rows), -math.inf)
        total, acc = torch.zeros(heads, rows), torch.zeros(heads, rows, dim)
        if sink and problem.sinks is not None:
            top = problem.sinks.float()[:, None].expand(heads, rows) * LOG2E
            total = torch.ones(heads, rows)
        for first in range(start, stop, self.tile):
            last = min(stop, first + self.tile)
            scores = q @ k[:, first:last].transpose(1, 2) if self.cuts is None else self._cut(q, k[:, first:last])
            if problem.soft_cap is None:
                scores = scores * (problem.sm_scale * LOG2E)
            else:
                scores = problem.soft_cap * torch.tanh(scores * problem.sm_scale / problem.soft_cap) * LOG2E
            keys = torch.arange(first, last)[None, :]
            hidden = keys > problem.positions[:, None]
            if problem.window_left >= 0:
                hidden = hidden | (keys < problem.positions[:, None] - problem.window_left)
            scores = scores.masked_fill(hidden, -math.inf)
            higher = torch.maximum(top, scores.amax(dim=2))
            shift = higher.masked_fill(torch.isneginf(higher), 0.0)
            rescale = torch.exp2(top - shift)
            p = torch.exp2(scores - shift[..., None])
            rounded = (p * self.p_scale).to(getattr(torch, self.p)).float() / self.p_scale
            summed = p.to(getattr(torch, self.row_sum)).float()
            acc = acc * rescale[..., None] + rounded @ v[:, first:last]
            total = total * rescale + summed.sum(dim=2)
            top = higher
        out = torch.where(total[..., None] > 0, acc / total[..., None], torch.zeros(()))
        lse = torch.where(total > 0, top / LOG2E + torch.log(total), torch.full((), -math.inf))
        return out.transpose(0, 1), lse.transpose(0, 1)

    def _cut(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        """Return the products of queries and keys as a tensor core sums them: aligned to the largest, and cut off."""
        assert self.cuts is not None
        group, spare = self.cuts
        products = q.double()[:, :, None] * k.double()[:, None]
        found = torch.zeros(products.shape[:3], dtype=torch.float64)
        for start in range(0, products.shape[3], group):
            added = torch.cat([found[..., None], products[..., start : start + group]], dim=3)
            found = cut_off(added, added.abs().amax(dim=3, keepdim=True), spare).sum(dim=3)
            found = cut_off(found, found.abs(), 0)
        return found.float()


def cut_off(numbers: torch.Tensor, largest: torch.Tensor, spare: int) -> torch.Tensor:
    """Return ``numbers`` without what lies below the last of the 24 bits of ``largest``, and of some to ``spare``."""
    last = torch.ldexp(torch.ones_like(largest), torch.frexp(largest).exponent - 24 - spare)
    return torch.trunc(numbers / last) * last


def make_case(length: int, new_tokens: int = 1, *, q_dtype: str = "bfloat16", seed: int = 0, **layer: object) -> Case:
    window = int(layer.get("window_left", -1))
    given_layer = {"num_qo_heads": 4, "num_kv_heads": 2, "head_dim": 64, "sm_scale": 0.125, **layer}
    return Case(
        mode="extend",
        q_dtype=q_dtype,
        kv_dtype=q_dtype,
        layers=(Layer(kind="full" if window < 0 else "sliding", **given_layer),),
        requests=(Request(prefix_len=length - new_tokens, new_tokens=new_tokens),),
        seed=seed,
    )


def worst(kernel: Kernel, problem: Problem, out_dtype: str) -> tuple[float, float]:
    expected = bounded_answer(problem, kernel.profile, out_dtype)
    out, lse = kernel.run(problem, out_dtype)
    return float(out_units(out, expected).max()), float(lse_units(lse, expected).max())


cases = st.builds(
    make_case,
    length=st.sampled_from([1, 2, 17, 64, 129, 300, 900]),
    new_tokens=st.just(1),
    q_dtype=st.sampled_from(["float32", "float16", "bfloat16"]),
    seed=st.integers(0, 10**6),
    head_dim=st.sampled_from([16, 64, 96, 256]),
    sm_scale=st.sampled_from([1.0, 0.125, 0.01]),
    window_left=st.sampled_from([-1, -1, 0, 15, 127]),
    logits_soft_cap=st.sampled_from([None, None, 5.0, 50.0]),
    sinks=st.booleans(),
)
kernels = st.builds(
    Kernel,
    p=st.sampled_from(["float32", "float16", "bfloat16", "float8_e4m3fn"]),
    row_sum=st.sampled_from(["float32", "bfloat16", "float16"]),
    partials=st.sampled_from([None, "float32", "bfloat16", "float16"]),
    tile=st.sampled_from([1, 16, 64, 128]),
    splits=st.sampled_from([1, 2, 5]),
    sink_first=st.booleans(),
    p_scale=st.sampled_from([1.0, 448.0]),
)


@given(case=cases, kernel=kernels)
@settings(max_examples=250, deadline=None, derandomize=True)
def test_no_right_kernel_exceeds_the_bound(case: Case, kernel: Kernel) -> None:
    out, lse = worst(kernel, make_logical(case).problem(0, 0), case.q_dtype)
    assert out <= 1.0, f"out {out:.3f} units"
    assert lse <= 1.0, f"lse {lse:.3f} units"


@pytest.mark.parametrize("p", ["float32", "bfloat16", "float16", "float8_e4m3fn"])
@pytest.mark.parametrize("length", [4096, 20_000])
def test_no_right_kernel_exceeds_the_bound_on_long_rows(length: int, p: str) -> None:
    for seed in range(2):
        problem = make_logical(make_case(length, 2, seed=seed)).problem(0, 0)
        for kernel in (Kernel(p=p), Kernel(p=p, row_sum=p, partials="bfloat16", splits=8, tile=128)):
            out, lse = worst(kernel, problem, "bfloat16")
            assert out <= 1.0, f"out {out:.3f} units"
            assert lse <= 1.0, f"lse {lse:.3f} units"


@pytest.mark.parametrize("head_dim", [256, 512])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("numbers", ["of one sign", "behind a spike", "between spikes", "random"])
@pytest.mark.parametrize("cuts", [_HOPPER, _AMPERE], ids=["H100", "A100"])
def test_sums_that_a_tensor_core_cuts_off_stay_inside(
    numbers: str, cuts: tuple[int, int], dtype: str, head_dim: int
) -> None:
    case = make_case(12, 8, q_dtype=dtype, head_dim=head_dim, sm_scale=1.0, num_qo_heads=1, num_kv_heads=1)
    problem = make_logical(case).problem(0, 0)
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(one.shape, generator=generator) for one in (problem.q, problem.k))
    if numbers == "of one sign":
        q, k = q.abs(), k.abs()
    if "spike" in numbers:
        q[..., 0] = q[..., -1] = 768.0
        k[..., 0], k[..., -1] = 16.0, -16.0 if numbers == "between spikes" else 1.0
    problem = replace(problem, q=q.to(problem.q.dtype), k=k.to(problem.k.dtype))
    out, lse = worst(Kernel(p=dtype, cuts=cuts), problem, dtype)
    assert out <= 1.0, f"out {out:.3f} units"
    assert lse <= 1.0, f"lse {lse:.3f} units"


def test_an_8_bit_p_that_is_rounded_448_times_as_large_has_a_narrower_bound() -> None:
    """With scale 1, a thousand probabilities of a flat row fall below the smallest number of the format together."""
    problem = make_logical(make_case(4096, sm_scale=0.01)).problem(0, 0)
    plain, scaled = (
        bounded_answer(problem, Kernel(p="float8_e4m3fn", p_scale=c).profile, "bfloat16") for c in (1, 448.0)
    )
    assert float((plain.out_bound / scaled.out_bound).min()) > 1.2
    assert worst(Kernel(p="float8_e4m3fn", p_scale=448.0), problem, "bfloat16")[0] <= 1.0


@pytest.mark.parametrize("out_dtype", ["bfloat16", "float8_e4m3fn"])
def test_stored_queries_and_answers_count_scaled(out_dtype: str) -> None:
    plain = make_logical(make_case(129, 3)).problem(0, 0)
    stored = replace(plain, q=plain.q * 4.0, q_scale=0.25, out_scale=0.25)
    expected, scaled = (
        bounded_answer(plain, Kernel().profile, "float32"),
        bounded_answer(stored, Kernel().profile, out_dtype),
    )
    assert torch.allclose(scaled.answer.out, 4.0 * expected.answer.out, rtol=1e-12)
    assert torch.allclose(scaled.answer.lse, expected.answer.lse, rtol=1e-12)
    out, _ = Kernel().run(plain, "float32")
    right = (4.0 * out).to(getattr(torch, out_dtype))
    assert float(out_units(right, scaled).max()) <= 1.0
    assert float(out_units((out / 4.0).to(right.dtype), scaled).max()) > 10.0


def test_a_row_of_one_probability_that_rounds_badly_stays_inside() -> None:
    """Equal values, so that the sum of P matters and its rounding does not cancel."""
    for p in ("bfloat16", "float8_e4m3fn"):
        problem = make_logical(make_case(200)).problem(0, 0)
        problem = replace(problem, v=torch.ones_like(problem.v))
        assert worst(Kernel(p=p), problem, "bfloat16")[0] <= 1.0


def test_a_sink_above_every_score_takes_the_small_probabilities_of_fp8() -> None:
    problem = make_logical(make_case(300, sinks=True)).problem(0, 0)
    assert problem.sinks is not None
    problem = replace(problem, sinks=torch.full_like(problem.sinks, 14.0))
    kernel = Kernel(p="float8_e4m3fn")
    out, _ = kernel.run(problem, "bfloat16")
    assert float(out.abs().max()) < float(attend(problem).out.abs().max())
    assert worst(kernel, problem, "bfloat16")[0] <= 1.0


@pytest.mark.parametrize("length", [40, 600])
def test_a_kernel_that_rounds_the_query_needs_the_term_for_it(length: int) -> None:
    rounding = Kernel(p="bfloat16", query="float8_e4m3fn")
    found, unaware = [], []
    for seed in range(6):
        problem = make_logical(make_case(length, 2, seed=seed, sm_scale=1.0)).problem(0, 0)
        found.append(worst(rounding, problem, "bfloat16")[0])
        out, _ = rounding.run(problem, "bfloat16")
        unaware.append(float(out_units(out, bounded_answer(problem, Kernel(p="bfloat16").profile, "bfloat16")).max()))
    assert max(found) <= 1.0
    assert max(unaware) > 1.0


def test_an_exact_kernel_leaves_only_the_rounding_of_the_output() -> None:
    problem = make_logical(make_case(300, 3)).problem(0, 0)
    expected = bounded_answer(problem, EXACT, "bfloat16")
    units = out_units(expected.answer.out.to(torch.bfloat16), expected)
    assert 0.3 < float(units.max()) <= 1.0


def drop(problem: Problem, token: int) -> Problem:
    """Return the problem without ``token``, which every row sees."""
    keep = torch.arange(problem.k.shape[0]) != token
    return replace(problem, k=problem.k[keep], v=problem.v[keep], positions=problem.positions - 1)


def dropped_units(logical: Logical, profile: NumericsProfile, dtype: str) -> list[float]:
    problem = logical.problem(0, 0)
    expected = bounded_answer(problem, profile, dtype)
    units = []
    for probe in logical.layers[0].probes:
        if probe.required and len(units) < _PROBES:
            answer = attend(drop(problem, probe.token))
            of_head = [one[:, [probe.head]] for one in (answer.out, expected.answer.out, expected.out_bound)]
            units.append(float(changes_by_row(*of_head).max()))
    return units


@pytest.mark.parametrize("length", [128, 1024, 8192, 32_768])
def test_one_dropped_witness_key_is_more_than_ten_units(length: int) -> None:
    logical = make_logical(make_case(length, head_dim=256, sm_scale=1.0))
    units = dropped_units(logical, NumericsProfile(p="bfloat16"), "bfloat16")
    assert len(units) == _PROBES
    assert min(units) > 10.0


@pytest.mark.parametrize("length", [128, 1024, 8192])
def test_fp8_probabilities_excuse_few_dropped_witness_keys(length: int) -> None:
    """Such kernels lose every small weight, so a row may lose about as much as one witness: seven in eight show."""
    units: list[float] = []
    for seed in range(4):
        logical = make_logical(make_case(length, head_dim=256, sm_scale=1.0, seed=seed))
        units += dropped_units(logical, NumericsProfile(p="float8_e4m3fn"), "bfloat16")
    assert len(units) == 4 * _PROBES
    assert sum(unit > 1.0 for unit in units) >= 7 * len(units) / 8


def test_one_dropped_key_of_random_data_is_less_than_one_unit() -> None:
    """This is why there are witnesses."""
    problem = make_logical(make_case(8192, head_dim=256)).problem(0, 0)
    rng = torch.Generator().manual_seed(5)
    problem = replace(problem, k=torch.randn(problem.k.shape, generator=rng, dtype=torch.float64))
    expected = bounded_answer(problem, NumericsProfile(p="bfloat16"), "bfloat16")
    lost = attend(drop(problem, 4000)).out
    assert float(changes_by_row(lost, expected.answer.out, expected.out_bound).max()) < 1.0


def test_a_coarser_profile_never_lowers_the_bound() -> None:
    problem = make_logical(make_case(200, 2, sinks=True, logits_soft_cap=20.0)).problem(0, 0)
    fine = NumericsProfile()
    base = bounded_answer(problem, fine, "bfloat16")
    for change in (
        {"p": "float16"},
        {"p": "bfloat16"},
        {"p": "float8_e4m3fn"},
        {"accumulator": "float16"},
        {"partials": "bfloat16"},
        {"tanh": 2.0**-11},
        {"dequantised": "bfloat16"},
        {"query": "float8_e4m3fn"},
    ):
        coarse = bounded_answer(problem, replace(fine, **change), "bfloat16")
        assert bool((coarse.out_bound > base.out_bound).all()), change
    coarse = bounded_answer(problem, replace(fine, row_sum="bfloat16"), "bfloat16")
    assert bool((coarse.lse_bound > base.lse_bound).all())
    assert bool((bounded_answer(problem, fine, "float16").out_bound < base.out_bound).all())


def test_roundoffs_are_those_of_torch() -> None:
    for name, unit in UNIT_ROUNDOFF.items():
        if name != "float22":  # no type, but what is left of a sum on a tensor core
            assert torch.finfo(getattr(torch, name)).eps / 2 == unit


def test_a_row_over_no_key_must_be_exactly_zero() -> None:
    problem = make_logical(make_case(5)).problem(0, 0)
    empty = replace(problem, positions=torch.tensor([-1]))
    expected = bounded_answer(empty, NumericsProfile(p="bfloat16"), "bfloat16")
    assert float(out_units(torch.zeros(1, 4, 64), expected).max()) == 0.0
    almost = torch.zeros(1, 4, 64)
    almost[0, 2, 7] = 1e-30
    assert float(out_units(almost, expected)[0, 2, 7]) == math.inf
    assert float(lse_units(torch.full((1, 4), -math.inf), expected).max()) == 0.0
    assert float(lse_units(torch.full((1, 4), -1e30), expected).max()) == math.inf


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_infinitely_wrong(bad: float) -> None:
    expected = bounded_answer(make_logical(make_case(5)).problem(0, 0), NumericsProfile(), "bfloat16")
    out, lse = expected.answer.out.clone(), expected.answer.lse.clone()
    out[0, 1, 3], lse[0, 2] = bad, bad
    assert float(out_units(out, expected)[0, 1, 3]) == math.inf
    assert int((out_units(out, expected) > 0).sum()) == 1
    assert float(lse_units(lse, expected)[0, 2]) == math.inf
    assert int((lse_units(lse, expected) > 0).sum()) == 1


@given(cut=st.integers(0, 40), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_merged_parts_are_the_whole(cut: int, seed: int) -> None:
    whole = make_logical(make_case(40, seed=seed)).problem(0, 0)
    parts = [
        replace(whole, k=whole.k[start:stop], v=whole.v[start:stop], positions=torch.tensor([stop - start - 1]))
        for start, stop in ((0, cut), (cut, 40))
    ]
    merged = merge_answers([bounded_answer(part, EXACT, "float64") for part in parts])
    right = attend(whole)
    assert torch.allclose(merged.answer.out, right.out, rtol=1e-12, atol=1e-12)
    assert torch.allclose(merged.answer.lse, right.lse, rtol=1e-12, atol=1e-12)
    assert float(out_units(right.out, merged).max()) <= 1.0


def test_merging_parts_without_any_key_gives_zeros() -> None:
    problem = make_logical(make_case(5)).problem(0, 0)
    empty = bounded_answer(replace(problem, k=problem.k[:0], v=problem.v[:0]), NumericsProfile(), "bfloat16")
    merged = merge_answers([empty, empty])
    assert torch.equal(merged.answer.out, torch.zeros_like(merged.answer.out))
    assert bool(torch.isneginf(merged.answer.lse).all())


@given(case=cases, kernel=kernels, cut=st.floats(0.1, 0.9))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_the_merge_of_two_right_parts_stays_inside_its_bound(case: Case, kernel: Kernel, cut: float) -> None:
    whole = replace(make_logical(case).problem(0, 0), window_left=-1, sinks=None)
    count = whole.k.shape[0]
    border = min(count, max(1, int(cut * count)))
    ranges = [(start, stop) for start, stop in ((0, border), (border, count)) if stop > start]
    parts = [
        replace(whole, k=whole.k[start:stop], v=whole.v[start:stop], positions=torch.tensor([stop - start - 1]))
        for start, stop in ranges
    ]
    expected = merge_answers([bounded_answer(part, kernel.profile, case.q_dtype) for part in parts])
    outs, lses = zip(*(kernel.run(part, case.q_dtype) for part in parts), strict=True)
    shares = torch.softmax(torch.stack(lses).double(), dim=0)
    merged = (shares[..., None] * torch.stack(outs).double()).sum(dim=0)
    assert float(out_units(merged, expected).max()) <= 1.0


def test_what_lies_plainly_within_the_bound_has_at_most_one_unit() -> None:
    problem = make_logical(make_case(128, head_dim=32)).problem(0, 0)
    expected = bounded_answer(problem, NumericsProfile(), "float32")
    lse = expected.answer.lse
    for factor, within in ((0.0, True), (0.99, True), (-1.0, True), (1.01, False), (math.nan, False)):
        out = expected.answer.out.clone()
        out[0, 0, 0] += factor * expected.out_bound[0, 0, 0]
        assert is_within(out, None, expected) == is_within(out, lse, expected) == within
        assert (float(units_by_row(out, lse, expected).max()) <= 1.0) == within
    assert not is_within(expected.answer.out, lse + 2 * expected.lse_bound, expected)
