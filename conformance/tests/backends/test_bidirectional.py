"""Bidirectional layers: right on every backend that serves them, refused by the others, and what a row of one sees."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from attnconf.backends.engines.sglang.capability import triton_supports
from attnconf.backends.engines.vllm.capability import supports as vllm_supports
from attnconf.backends.flashinfer.fa import make_fa2
from attnconf.backends.flashinfer.trtllm_mha.capability import supports as trtllm_supports
from attnconf.backends.triton.variants import launch_builds
from attnconf.cases.case import Case, Layer, Paging, Poison
from attnconf.cases.drawing.profiles import profile_named
from attnconf.cases.inputs.assemble import assemble
from attnconf.cases.inputs.layout import place
from attnconf.cases.inputs.logical import make_logical
from attnconf.cases.request import Request
from attnconf.cases.shape import batch_shape, kernel_shape
from attnconf.cases.sight import Seen, seen
from attnconf.judging.checks.catalogue import all_checks, base_checks, rotated_checks
from attnconf.judging.result import Outcome
from attnconf.judging.run import run_case
from attnconf.platforms import Platform, detect, simulate
from attnconf.report.failure import describe_failure
from attnconf.running.bench.work import work
from attnconf.running.session import Session
from conformance.tests.support.shapes import a_shape

CPU = torch.device("cpu")
HOPPER = Platform(sm=(9, 0), cuda="13.0", packages={"flashinfer-python": "0.6.18.post1"}, simulated=True)
SESSION = Session(platform=detect(), profile=profile_named("smoke"))
FULL = Layer(kind="full", num_qo_heads=6, num_kv_heads=2, head_dim=64, sm_scale=0.125, bidirectional=True)
SLIDING = FULL.model_copy(update={"kind": "sliding", "window_left": 20})
LAYERS = (
    FULL,
    SLIDING,
    SLIDING.model_copy(update={"window_left": 2}),
    FULL.model_copy(update={"bidirectional": False}),
    SLIDING.model_copy(update={"kv_owner": 1, "sm_scale": 0.2, "window_left": 9}),
)
REQUESTS = (
    Request(prefix_len=44, new_tokens=13),
    Request(prefix_len=21, new_tokens=1),
    Request(new_tokens=90),
    Request(prefix_len=30, new_tokens=5),
)


def a_case(**changes: Any) -> Case:  # noqa: ANN401 - any field
    fields: dict[str, Any] = {
        "mode": "extend",
        "layers": LAYERS,
        "requests": REQUESTS,
        "paging": Paging(page_size=8, hybrid=True),
        "poison": Poison(k="nan", v="nan"),
    }
    return Case.model_validate(fields | changes)


def test_a_row_sees_its_request_as_far_as_its_window_reaches_on_both_sides() -> None:
    request = Request(prefix_len=30, new_tokens=40)
    assert [seen(FULL, request, row) for row in (0, 39)] == [Seen(30, 0, 69), Seen(69, 0, 69)]
    assert [seen(SLIDING, request, row)[1:3] for row in (0, 18, 19, 20, 39)] == [
        (10, 50),
        (28, 68),
        (29, 69),
        (30, 69),
        (49, 69),
    ]


@pytest.mark.parametrize("backend", ["reference", "torch_sdpa", "triton"])
def test_every_layer_is_answered_right(backend: str) -> None:
    layers = LAYERS[:3] if backend == "triton" else LAYERS
    choose = rotated_checks if backend == "triton" else all_checks
    result = run_case(a_case(layers=layers), SESSION.backend(backend), SESSION.platform, CPU, choose=choose)
    assert {one.outcome for one in result.layers} == {Outcome.PASSED}, result
    shown = ["bidirectional" in one.effective for one in result.layers]
    assert shown == [layer.bidirectional for layer in layers]


@pytest.mark.parametrize("layer", [FULL, SLIDING])
def test_split_keys_of_a_verify_step_are_merged(layer: Layer) -> None:
    wide = layer.model_copy(update={"window_left": 1500}) if layer.kind == "sliding" else layer
    requests = (Request(prefix_len=1800, new_tokens=6), Request(prefix_len=9, new_tokens=6))
    case = a_case(mode="verify", layers=(wide,), requests=requests, padding_rows=1)
    result = run_case(case, SESSION.backend("triton"), SESSION.platform, CPU, choose=base_checks)
    assert {one.outcome for one in result.layers} == {Outcome.PASSED}, result


def test_a_decode_of_such_a_layer_is_that_of_any_other() -> None:
    """A row over the whole of its request has nothing behind it, so backends that are causal serve it."""
    for requests, mode in ((REQUESTS, "extend"), ((Request(prefix_len=9),), "decode")):
        case = a_case(requests=requests, mode=mode, layers=(FULL, SLIDING))
        batch = assemble(case, place(case), make_logical(case), CPU)
        several = mode == "extend"
        assert [kernel_shape(case, layer).bidirectional for layer in range(2)] == [several] * 2
        assert [batch_shape(batch, layer).bidirectional for layer in range(2)] == [several] * 2


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"spans": True}, "no chunks and follows no spans"),
        ({"kind": "chunked", "chunk_size": 4}, "no chunks and follows no spans"),
    ],
)
def test_what_no_layer_is_both_of_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Layer.model_validate(FULL.model_dump() | changes)


def test_a_tree_of_drafts_is_refused_beside_such_a_layer() -> None:
    forked = Request(prefix_len=9, new_tokens=3, tree=(-1, 0, 0))
    with pytest.raises(ValidationError, match="a tree of draft tokens is not for a bidirectional layer"):
        a_case(mode="verify", requests=(forked,))


def test_the_others_decline_what_sees_ahead() -> None:
    shape = a_shape(mode="extend", max_q_len=6, bidirectional=True, q_dtype="float16", kv_dtype="float16")
    packages = {"sglang": "0.5.23", "vllm": "0.33.0", "triton": "3.9.0", "torch": "2.13.0"}
    vllm = vllm_supports(a_shape(**{**vars(shape), "storage": "sliced"}), Platform(packages=packages))
    said = [
        triton_supports(shape, Platform(packages=packages)),
        vllm,
        trtllm_supports(shape, HOPPER),
        make_fa2(simulate("9.0")).supports(shape, simulate("9.0")),
    ]
    reasons = [one.reason for one in said if one is not None]
    assert len(reasons) == 4
    assert all("decoder" in reason or "causal masks" in reason for reason in reasons), reasons


def test_a_build_of_such_a_variant_is_of_a_batch_that_has_it() -> None:
    shape = a_shape(mode="extend", max_q_len=20, bidirectional=True, windowed=True)
    names = [build.name for build in launch_builds(shape)]
    assert all(name.endswith("window_both") for name in names), names


def test_pairs_of_rows_and_keys_are_counted_on_both_sides() -> None:
    one = Request(prefix_len=30, new_tokens=40)
    pairs = [sum(seen(layer, one, row).keys for row in range(40)) for layer in (FULL, SLIDING)]
    counted = [work(a_case(layers=(layer,), requests=(one,)), 0)[1] for layer in (FULL, SLIDING)]
    assert counted == [2 * count * 6 * 128 for count in pairs]


def test_a_failure_says_that_the_layer_is_one() -> None:
    from attnconf.mutants.registry import mutant_named

    mutant = mutant_named("bidirectional-as-causal")
    result = run_case(mutant.proof, mutant.make(SESSION.platform), SESSION.platform, CPU)
    assert "head_dim 64, bidirectional" in describe_failure(result)
    assert "a row of a bidirectional layer does not see the tokens behind it" in describe_failure(result)
