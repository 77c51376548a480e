"""Witnesses: every row and head has a probe, classes rotate, and a probe that is read holds much of its row."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from attnconf.bounded import Bounded, changes_by_row
from attnconf.cases import trees
from attnconf.cases.case import Case, Layer, Paging
from attnconf.cases.drawing.space import Space
from attnconf.cases.drawing.strategies import cases, free_layers
from attnconf.cases.inputs.logical import make_logical
from attnconf.cases.inputs.witnesses import AHEAD, BRANCH, FORBIDDEN, OTHERS, REQUIRED, SATURATED, Sight, plan_probes
from attnconf.cases.request import Request
from attnconf.judging.effects import effect, effective_features, mistake_units
from attnconf.judging.posed import PosedCase
from attnconf.judging.search import CLAIMED
from attnconf.oracle.attention import solve
from attnconf.oracle.blocks import Block
from attnconf.oracle.packed import scaled
from attnconf.oracle.problem import Answer, Problem
from attnconf.precision import EFFECTIVE_UNITS, NumericsProfile

FREE = Space(name="free", layers=free_layers(), max_kv_len=120, max_new_tokens=8)
LAYER = {"num_qo_heads": 4, "num_kv_heads": 2, "head_dim": 64, "sm_scale": 0.125}


def scores_of(problem: Problem) -> torch.Tensor:
    keys = scaled(problem.k, problem.k_scale)[:, problem.kv_head_of]
    return problem.sm_scale * torch.einsum("mhd,nhd->hmn", problem.q.double(), keys)


def make(window: int = 100, length: int = 400, **changes: object) -> Case:
    layer = Layer(kind="sliding", window_left=window, **{**LAYER, **changes})
    return Case(mode="extend", layers=(layer,), requests=(Request(prefix_len=length - 4, new_tokens=4),), seed=3)


@given(cases(FREE))
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_required_probes_are_visible_and_forbidden_ones_are_not(case: Case) -> None:
    for index, layer in enumerate(case.layers):
        for probe in plan_probes(case, index):
            spec = case.requests[probe.request]
            position, token = spec.prefix_len + probe.row, probe.token
            if spec.tree:  # what a row sees of a tree goes by depth, and of the drafts by parents
                depths, branch = trees.depths(spec.tree), trees.branch(spec.tree, probe.row)
                position = spec.prefix_len + depths[probe.row]
                draft = token - spec.prefix_len
                token = token if draft < 0 else spec.prefix_len + depths[draft] if draft in branch else position + 1
            first = max(0, position - layer.window_left) if layer.window_left >= 0 else 0
            first = first if layer.chunk_size is None else position - position % layer.chunk_size
            together = layer.spans and any(position in range(*span) and token in range(*span) for span in spec.spans)
            if layer.bidirectional:
                together = layer.window_left < 0 or token <= position + layer.window_left
            assert 0 <= probe.token < spec.kv_len
            assert (first <= token and (token <= position or together)) == probe.required
            assert probe.name in ({*AHEAD, *BRANCH, SATURATED} if probe.required else OTHERS)


def test_no_key_carries_more_probes_than_its_dimensions_bear() -> None:
    load = Counter((probe.head // 2, probe.token) for probe in plan_probes(make(), 0))
    assert max(load.values()) <= 64 // 32


def test_every_class_that_applies_is_tried_within_a_few_cases() -> None:
    tried: set[str] = set()
    for seed in range(24):
        requests = (
            Request(prefix_len=300, new_tokens=4),
            Request(prefix_len=290, new_tokens=4, shares_with=0, shared_pages=9),
        )
        case = make().model_copy(update={"seed": seed, "requests": requests, "paging": Paging(page_size=32)})
        full = make().model_copy(update={"seed": seed, "requests": requests, "layers": (Layer(kind="full", **LAYER),)})
        tried |= {probe.name for one in (case, full) for probe in plan_probes(one, 0)}
    assert tried == {*REQUIRED, *FORBIDDEN}


@pytest.mark.parametrize("length", [130, 1000, 8000])
@pytest.mark.parametrize(
    "changes", [{}, {"logits_soft_cap": 50.0}, {"logits_soft_cap": 5.0}, {"sinks": True}, {"sm_scale": 1.0}]
)
def test_a_lone_required_probe_holds_a_large_share_of_its_row(length: int, changes: dict[str, object]) -> None:
    layer = Layer(kind="full", **{**LAYER, "head_dim": 256, **changes})
    case = Case(mode="decode", layers=(layer,), requests=(Request(prefix_len=length - 1),), seed=5)
    logical = make_logical(case)
    (solved,) = solve([logical.problem(0, 0)])
    p = solved.weights.p[0, :, 0]
    shares = {(probe.head, probe.token): float(p[probe.head, probe.token]) for probe in logical.layers[0].probes}
    assert len(shares) >= 4
    assert min(shares.values()) > 0.01
    assert max(shares.values()) > 0.1


@pytest.mark.parametrize("kv_dtype", ["bfloat16", "float8_e4m3fn"])
@pytest.mark.parametrize("changes", [{}, {"logits_soft_cap": 50.0}, {"sinks": True}])
def test_one_key_lost_among_32768_shows(changes: dict[str, object], kv_dtype: str) -> None:
    layer = Layer(kind="full", **{**LAYER, **changes})
    requests = (Request(prefix_len=32_765, new_tokens=3),)
    case = Case(mode="extend", kv_dtype=kv_dtype, layers=(layer,), requests=requests, seed=12)
    posed = PosedCase(case, torch.device("cpu"))
    tokens = {probe.token for probe in posed.logical.layers[0].probes if probe.required}
    assert len(tokens) >= 8
    expected = posed.answer(0, 0, NumericsProfile(p="bfloat16"))
    least = math.inf
    for solved in solve([posed.logical.problem(0, 0)]):
        block = solved.block
        right = Bounded(*_of_block(block, expected))
        for token in tokens:
            p, v = solved.weights.p[0, :, :, token, None], block.v[0, :, None, token].repeat_interleave(2, dim=0)
            out = (right.answer.out - (p * v).transpose(0, 1)) / (1.0 - p).transpose(0, 1)
            least = min(least, float(changes_by_row(out, right.answer.out, right.out_bound).max()))
    assert least > EFFECTIVE_UNITS


def _of_block(block: Block, expected: Bounded) -> tuple[Answer, torch.Tensor, torch.Tensor]:
    """Return the part of an expected answer that a block of one part has."""
    (piece,) = block.parts[0].pieces
    rows, heads = slice(piece.out_row, piece.out_row + piece.rows), block.query_heads
    answer = Answer(expected.answer.out[rows, heads], expected.answer.lse[rows, heads])
    return answer, expected.out_bound[rows, heads], expected.lse_bound[rows, heads]


@pytest.mark.parametrize(
    ("feature", "changes"),
    [
        ("window", {}),
        ("causal", {}),
        ("prefix", {}),
        ("paging", {}),
        ("gqa", {}),
        ("sm_scale", {"sm_scale": 0.5}),
        ("soft_cap", {"logits_soft_cap": 20.0}),
        ("soft_cap", {"logits_soft_cap": 50.0}),
        ("sinks", {"sinks": True}),
        ("sinks", {"sinks": True, "logits_soft_cap": 20.0}),
        ("sinks", {"sinks": True, "logits_soft_cap": 50.0}),
    ],
)
def test_a_feature_that_is_on_is_effective(feature: str, changes: dict[str, object]) -> None:
    case = make(**changes)
    posed = PosedCase(case, torch.device("cpu"))
    expected = posed.answer(0, 0, NumericsProfile(p="bfloat16"))
    units = mistake_units([(posed.scene(0, 0), expected)])
    assert feature in effective_features(units), units


@pytest.mark.parametrize("changes", [{"q_dtype": "float32", "kv_dtype": "float32"}, {"layers.cap": 50.0}])
def test_in_one_capped_case_of_four_a_score_lies_where_a_careless_tanh_overflows(changes: dict[str, object]) -> None:
    cap = float(str(changes.pop("layers.cap", 5.0)))
    far = 0
    for seed in range(8):
        case = make(logits_soft_cap=cap).model_copy(update={"seed": seed, **changes})
        problem = make_logical(case).problem(0, 0)
        scores = scores_of(problem)
        far += bool((scores / cap > 89.0).any())
    assert far == 2


@pytest.mark.parametrize("changes", [{}, {"q_dtype": "float32", "kv_dtype": "float32"}, {"kv_dtype": "float8_e4m3fn"}])
def test_in_some_cases_all_scores_lie_where_exp_leaves_float32(changes: dict[str, object]) -> None:
    tops: list[float] = []
    for seed in range(16):
        case = make(sinks=True).model_copy(update={"seed": seed, **changes})
        problem = make_logical(case).problem(0, 0)
        scores = scores_of(problem)
        assert problem.sinks is not None
        tops.append(float(scores.max()))
        assert float((problem.sinks - tops[-1]).abs().min()) < 8.0  # of the heads whose sink is not far
    assert sum(top > 89.0 for top in tops) == sum(top < -104.0 for top in tops) == 2


def test_a_redirected_layer_and_its_owner_have_their_scores_at_one_level() -> None:
    layer = Layer(kind="full", **LAYER)
    for reader in ({"sm_scale": 0.3}, {"logits_soft_cap": 50.0}):
        for owner in (layer, layer.model_copy(update={"logits_soft_cap": 20.0})):
            case = make().model_copy(
                update={"seed": 2, "layers": (owner, layer.model_copy(update={"kv_owner": 0, **reader}))}
            )
            problem = make_logical(case).problem(1, 0)
            scores = scores_of(problem)
            level = -160.0 if problem.soft_cap is None else 40.0
            assert abs(float(scores.median()) - level) < 2.0


def test_a_window_that_masks_nothing_is_not_effective() -> None:
    posed = PosedCase(make(window=1000), torch.device("cpu"))
    units = mistake_units([(posed.scene(0, 0), posed.answer(0, 0, NumericsProfile(p="bfloat16")))])
    assert "window" not in effective_features(units)


@given(cases(FREE))
@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_first_and_last_rows_settle_what_all_rows_would(case: Case) -> None:
    posed = PosedCase(case, torch.device("cpu"))
    for layer in range(len(case.layers)):
        requests = range(len(case.requests))
        pairs = [(posed.scene(layer, request), posed.answer(layer, request, NumericsProfile())) for request in requests]
        whole: dict[str, float] = {}
        for scene, expected in pairs:
            for mistake in CLAIMED:
                asked = mistake.apply(scene) if expected.answer.out.numel() else None
                if asked is not None:
                    whole[mistake.name] = max(effect(asked, expected), whole.get(mistake.name, 0.0))
        assert effective_features(mistake_units(pairs)) == effective_features(whole)


def test_a_sight_finds_the_borders_around_it() -> None:
    sight = Sight(
        position=50, first=41, end=50, hidden=(), prefix_len=48, kv_len=60, page_size=16, shared_tokens=0, salt=0
    )
    assert sight.first == 41
    assert (sight.inside(41), sight.inside(40), sight.inside(51)) == (41, None, None)
    assert (sight.outside(40), sight.outside(51), sight.outside(60), sight.outside(-1)) == (40, 51, None, None)
    assert sight.border(16) == 48
    assert (REQUIRED["oldest"](sight), REQUIRED["newest"](sight), FORBIDDEN["first_outside"](sight)) == (41, 50, 40)
    ahead = sight._replace(end=55)
    assert (ahead.inside(55), ahead.outside(55), ahead.outside(56)) == (55, None, 56)
    assert (AHEAD["span_last"](ahead), AHEAD["span_next"](ahead), FORBIDDEN["next"](ahead)) == (55, 51, 56)
