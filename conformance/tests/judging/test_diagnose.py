"""A wrong answer is explained: the mistake that reproduces it, or the key that was lost or read."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from attnconf.backends.reference import ReferenceBackend
from attnconf.cases.case import Case, Layer, Paging, Poison, QuerySide
from attnconf.cases.dtypes import FP8, NVFP4
from attnconf.cases.inputs.target import make_target
from attnconf.cases.inputs.witnesses import plan_probes
from attnconf.cases.request import Request
from attnconf.judging.diagnose import explain
from attnconf.judging.execution import Output
from attnconf.judging.explanation import Explanation
from attnconf.judging.mistakes import MISTAKES, Mistake, answers_to
from attnconf.judging.mistakes.blocks import BLOCKS
from attnconf.judging.posed import PosedCase
from attnconf.judging.trial import Trial
from attnconf.oracle.attention import attend
from attnconf.oracle.problem import Problem
from attnconf.platforms import Platform

PLAIN = {"num_qo_heads": 6, "num_kv_heads": 3, "head_dim": 64, "sm_scale": 0.5}
SLIDING = {**PLAIN, "kind": "sliding", "window_left": 30}
RICH = Case(
    mode="extend",
    kv_dtype="float8_e4m3fn",
    layers=(
        Layer(**SLIDING, sinks=True, logits_soft_cap=50.0, k_scale=0.4, v_scale=2.0),
        Layer(**SLIDING, kv_owner=0, k_scale=0.25, v_scale=1.5),
        Layer(kind="full", **PLAIN, k_scale=0.4, v_scale=2.0),
    ),
    requests=(Request(prefix_len=100, new_tokens=4), Request(prefix_len=70, new_tokens=4)),
    paging=Paging(page_size=8, hybrid=True),
    seed=7,
)


def trial_with(case: Case, layer: int, request: int, change: object) -> Trial:
    """Return a trial whose backend answered ``change(problem)`` for one request, and was right elsewhere."""
    trial = Trial(PosedCase(case, torch.device("cpu")), ReferenceBackend(), Platform())
    out = torch.cat([attend(trial.posed.scene(layer, r).problem).out for r in range(len(case.requests))])
    out[trial.posed.rows(request)] = change(trial.posed.scene(layer, request))
    target = make_target(trial.posed.batch, layer, lse=False)
    target.out[: len(out)].copy_(out)
    trial._base[layer] = Output(target.out, None, "fake", target)
    return trial


LAYER_FOR = {
    "owner's q_scale": 1,
    "own KV": 1,
    "own scales": 1,
    "own scales of heads": 1,
    "neighbour's pages": 2,
    "window everywhere": 2,
    "oldest key lost": 2,
    "finite mask": 1,
    **dict.fromkeys((mistake.name for mistake in MISTAKES if mistake.name.startswith(("owner's", "first layer's"))), 1),
}
LONG = {"requests": (Request(prefix_len=200, new_tokens=4), Request(prefix_len=150, new_tokens=40))}
CALIBRATED = tuple(
    layer.model_copy(update={"q_scale": scale, "out_scale": 0.05, "v_scale": 16.0})
    for layer, scale in zip(RICH.layers, (0.06, 0.5, 0.01), strict=True)
)
EIGHT_BIT = {"q_dtype": FP8, "out_dtype": "bfloat16", "layers": CALIBRATED}
_IMAGE_LAYER = (RICH.layers[0].model_copy(update={"spans": True}),)
_IMAGES = {
    "layers": _IMAGE_LAYER,
    "paging": Paging(page_size=8),
    "requests": (
        Request(prefix_len=100, new_tokens=9, spans=((101, 104), (106, 108))),
        Request(prefix_len=70, new_tokens=12, spans=((3, 7), (66, 76), (78, 81))),
    ),
}
_CHUNKED = {
    "layers": tuple(Layer(**PLAIN, kind="chunked", chunk_size=size, k_scale=0.4, v_scale=2.0) for size in (24, 15)),
    "paging": Paging(page_size=8),
    "requests": (Request(prefix_len=100, new_tokens=4), Request(prefix_len=70, new_tokens=30)),
}
_BOTH_WAYS = {
    "layers": (RICH.layers[0].model_copy(update={"bidirectional": True, "window_left": 9}),),
    "paging": Paging(page_size=8),
    "requests": (Request(prefix_len=100, new_tokens=9), Request(prefix_len=70, new_tokens=30)),
}
_NARROW = {
    "layers": tuple(layer.model_copy(update={"head_dim": 96, "head_dim_v": 64}) for layer in RICH.layers),
    "paging": Paging(page_size=8),
}
_UNLIKE_OWNER = {
    "layers": (
        RICH.layers[0],
        Layer(**{**PLAIN, "sm_scale": 0.2}, kind="sliding", window_left=12, kv_owner=0, sinks=True, k_scale=0.3),
    )
}
_TWO_OWNERS = {
    "layers": (
        Layer(**PLAIN, kind="full", k_scale=0.4, v_scale=2.0, q_scale=0.5, out_scale=0.05),
        Layer(**PLAIN, kind="full", k_scale=0.7, v_scale=3.0, q_scale=0.2, out_scale=0.03),
    ),
    "paging": Paging(page_size=8),
}
_THREE = {
    "paging": Paging(page_size=8),
    "requests": tuple(Request(prefix_len=prefix, new_tokens=2) for prefix in (100, 70, 86)),
}
_LOW = {"kv_dtype": "bfloat16", "layers": (Layer(**SLIDING), Layer(**PLAIN, kind="full")), "seed": 18}
"""All scores lie near -12,000."""

_TREES = {
    "mode": "verify",
    "paging": Paging(page_size=8),
    "requests": (
        Request(prefix_len=100, new_tokens=7, tree=(-1, 0, 0, 0, 3, 3, 4)),
        Request(prefix_len=70, new_tokens=7, tree=(-1, 0, 0, 1, 1, 2, 2)),
    ),
}
_HEADS = {"num_kv_heads": 2, "k_scale": 1.0, "v_scale": 1.0, "k_scales": (0.4, 1.5), "v_scales": (2.0, 0.25)}
_BY_HEAD = {"layers": tuple(layer.model_copy(update=_HEADS) for layer in RICH.layers[:2])}
_HEADS_OF_4_BITS = {
    "layers": tuple(layer.model_copy(update={"num_kv_heads": 2}) for layer in RICH.layers[:2]),
    "paging": Paging(page_size=8),
}
_CAUSAL = {**_IMAGES, "layers": RICH.layers[:1]}
CASE_FOR = {
    **{mistake.name: {"kv_dtype": NVFP4} for mistake in BLOCKS},
    "block scales of the next head": {"kv_dtype": NVFP4, **_HEADS_OF_4_BITS},
    "block scales of the page before": {"kv_dtype": NVFP4, "paging": Paging(page_size=8)},
    **dict.fromkeys(
        ("spans off", "span end lost", "span too long", "spans joined", "spans of the chunk", "neighbour's spans"),
        _IMAGES,
    ),
    "span beyond the window": {
        **_IMAGES,
        "requests": (Request(prefix_len=70, new_tokens=4), Request(prefix_len=60, new_tokens=50, spans=((62, 108),))),
    },
    "rows of the longest": {"requests": (Request(prefix_len=100, new_tokens=9), Request(prefix_len=70, new_tokens=4))},
    **dict.fromkeys(("owner's sm_scale", "owner's window", "owner's soft cap", "owner's sinks"), _UNLIKE_OWNER),
    **dict.fromkeys(("first layer's k_scale", "first layer's v_scale"), _TWO_OWNERS),
    "first layer's q_scale": {**_TWO_OWNERS, "q_dtype": FP8, "out_dtype": "bfloat16"},
    "first layer's out_scale": {**_TWO_OWNERS, "q_dtype": FP8, "out_dtype": FP8},
    **dict.fromkeys(
        (
            *("next request's pages", "last request's pages", "pages by query row"),
            *("values of the next request", "values of the last request"),
        ),
        _THREE,
    ),
    "spans everywhere": _CAUSAL,
    "finite window": _LOW,
    "finite mask": {**_LOW, "paging": Paging(page_size=8)},
    "q_scale off": EIGHT_BIT,
    "q_scale once more": {"layers": CALIBRATED},
    "owner's q_scale": EIGHT_BIT,
    "owner's out_scale": {
        **EIGHT_BIT,
        "out_dtype": FP8,
        "layers": (CALIBRATED[0], CALIBRATED[1].model_copy(update={"out_scale": 0.02}), CALIBRATED[2]),
    },
    "out_scale off": EIGHT_BIT | {"out_dtype": FP8},
    "out_scale once more": {"layers": CALIBRATED},
    "out_scale inverted": EIGHT_BIT | {"out_dtype": FP8},
    "drafts of the first": {
        "mode": "verify",
        "requests": (Request(prefix_len=100, new_tokens=7), Request(prefix_len=70, new_tokens=4)),
    },
    **dict.fromkeys((mistake.name for mistake in MISTAKES if mistake.feature == "chunk"), _CHUNKED),
    **dict.fromkeys((mistake.name for mistake in MISTAKES if mistake.feature == "bidirectional"), _BOTH_WAYS),
    **dict.fromkeys((mistake.name for mistake in MISTAKES if mistake.feature == "head_dim_v"), _NARROW),
    **dict.fromkeys((mistake.name for mistake in MISTAKES if mistake.feature == "tree"), _TREES),
    "drafts alone": {
        "mode": "verify",
        "layers": (Layer(kind="full", **PLAIN, k_scale=0.4, v_scale=2.0),),
        "paging": Paging(page_size=8),
    },
    "e5m2 as e4m3": {"kv_dtype": "float8_e5m2"},
    **dict.fromkeys((mistake.name for mistake in MISTAKES if mistake.feature == "head_scales"), _BY_HEAD),
    "own scales of heads": {
        "layers": (_BY_HEAD["layers"][0], _BY_HEAD["layers"][1].model_copy(update={"k_scales": (1.2, 0.3)}))
    },
    "pages of an empty request": {
        "requests": (Request(prefix_len=100, new_tokens=0), Request(prefix_len=70, new_tokens=4))
    },
    "window of the chunk": LONG,
    "full page lost": {"requests": (Request(prefix_len=100, new_tokens=4), Request(prefix_len=68, new_tokens=4))},
    "soft cap after mask": {"layers": (Layer(**PLAIN, kind="full", logits_soft_cap=5.0, k_scale=0.4, v_scale=2.0),)},
    "merge in base two": {"seed": 1},
    "sinks log2": {"layers": (Layer(**PLAIN, kind="full", sinks=True, k_scale=0.4, v_scale=2.0),)},
    "padded group": {"layers": (Layer(**{**PLAIN, "num_kv_heads": 2}, kind="full", k_scale=0.4, v_scale=2.0),)},
    "another's KV": {"layers": (RICH.layers[0], RICH.layers[0], RICH.layers[0].model_copy(update={"kv_owner": 0}))},
    "tile offset lost": LONG | {"paging": Paging(page_size=128, hybrid=True)},
    "packed queries": {"query": QuerySide(storage="packed")},
    "rows from the end": {"query": QuerySide(slack_rows=3)},
    "table a width apart": {"paging": Paging(page_size=8, hybrid=True, table_slack=5)},
    "shared pages lost": {
        "requests": (
            Request(prefix_len=100, new_tokens=4),
            Request(prefix_len=70, new_tokens=4, shares_with=0, shared_pages=8),
        )
    },
}
OF_ONE_LAYER = {"soft cap after mask", "sinks log2", "padded group"}
EXPLAINING = tuple(mistake for mistake in MISTAKES if mistake.name != "LSE in base two")


@pytest.mark.parametrize("mistake", EXPLAINING, ids=lambda mistake: mistake.name.replace(" ", "_"))
def test_each_known_mistake_is_recognised(mistake: Mistake) -> None:
    changes = CASE_FOR.get(mistake.name, {})
    if mistake.name in OF_ONE_LAYER:
        changes = {**changes, "paging": Paging(page_size=8)}
    case = RICH.model_copy(update=changes)
    layer = LAYER_FOR.get(mistake.name, 2 if mistake.name in {"another's KV", "other pool"} else 0)
    trial = trial_with(case, layer, 1, lambda scene: answers_to([mistake.apply(scene)])[0].out)
    found = explain(trial, layer, 1, case.requests[1].new_tokens - 1, 0)
    assert found.clause == mistake.clause
    assert mistake.text in found.suspicion


def without(problem: Problem, token: int) -> Problem:
    keep = torch.arange(problem.k.shape[0]) != token
    window = problem.window_left - 1
    return replace(problem, k=problem.k[keep], v=problem.v[keep], positions=problem.positions - 1, window_left=window)


def make(**changes: object) -> Case:
    layer = Layer(kind="sliding", window_left=60, num_qo_heads=2, num_kv_heads=1, head_dim=64, sm_scale=0.125)
    given = {
        "mode": "decode",
        "layers": (layer,),
        "requests": (Request(prefix_len=99),),
        "paging": Paging(page_size=8),
        "seed": 2,
    }
    return Case(**{**given, **changes})


def test_a_lost_key_is_named_with_its_place_in_memory() -> None:
    case = make()
    probe = next(p for p in plan_probes(case, 0) if p.required and p.name not in {"oldest", "newest"})
    trial = trial_with(case, 0, 0, lambda scene: attend(without(scene.problem, probe.token)).out)
    found = explain(trial, 0, 0, 0, probe.head)
    assert found.clause == 5
    assert found.keys == f"key {probe.token} seems lost or underweighted; positions 39 to 99 are visible"
    assert found.suspicion == "a key in sight is lost"
    assert (found.page, found.slot) == (trial.posed.layout.page("full", 0, probe.token), probe.token % 8)


@pytest.mark.parametrize(("token", "clause", "said"), [(20, 2, "out of sight"), (50, 3, "")])
def test_a_key_that_is_read_too_much_is_named(token: int, clause: int, said: str) -> None:
    def change(scene: object) -> torch.Tensor:
        right = attend(scene.problem).out
        return right + 0.5 * (scene.problem.v[token] - right)

    found = explain(trial_with(make(), 0, 0, change), 0, 0, 0, 1)
    assert found.clause == clause
    assert found.keys.startswith(f"key {token} seems read too much")
    assert said in found.suspicion


def test_a_later_key_is_a_matter_of_causality() -> None:
    case = make(mode="extend", requests=(Request(prefix_len=90, new_tokens=10),))

    def change(scene: object) -> torch.Tensor:
        right = attend(scene.problem).out
        return right + 0.5 * (scene.problem.v[95] - right)

    found = explain(trial_with(case, 0, 0, change), 0, 0, 0, 0)
    assert found.clause == 1
    assert found.keys.startswith("key 95 seems read too much; positions 30 to 90")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_poison_that_reaches_the_output_is_a_dead_slot(value: float) -> None:
    case = make(poison=Poison(k="nan", v="huge"))
    found = explain(trial_with(case, 0, 0, lambda scene: attend(scene.problem).out.fill_(value)), 0, 0, 0, 0)
    assert found.clause == 6
    assert "poison (nan keys, huge values) reached the row at position 99" in found.suspicion


def test_nan_without_poison_is_not_blamed_on_dead_slots() -> None:
    found = explain(trial_with(make(), 0, 0, lambda scene: attend(scene.problem).out.fill_(math.nan)), 0, 0, 0, 0)
    assert found.clause == 3
    assert "every input slot is finite" in found.suspicion


def test_values_that_no_live_key_has_come_from_a_dead_slot() -> None:
    rng = torch.Generator().manual_seed(0)
    noise = 40 * torch.randn(64, generator=rng, dtype=torch.float64)
    found = explain(trial_with(make(), 0, 0, lambda scene: attend(scene.problem).out + noise), 0, 0, 0, 0)
    assert found == Explanation(
        clause=6,
        keys="no live key has such a value; positions 39 to 99 are visible",
        suspicion="a dead slot was read",
        diagnosis="a dead slot was read",
    )


def test_noise_is_left_unexplained() -> None:
    rng = torch.Generator().manual_seed(0)
    noise = 0.05 * torch.randn(64, generator=rng, dtype=torch.float64)
    found = explain(trial_with(make(), 0, 0, lambda scene: attend(scene.problem).out + noise), 0, 0, 0, 0)
    assert found.clause == 3
    assert found.keys == "no single live key explains it; positions 39 to 99 are visible"
    assert not found.suspicion
