"""Trees of drafts: right on every backend that serves them, refused by the others, and XQA's mask of bits."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attnconf.backends.engines.sglang.capability import triton_supports
from attnconf.backends.engines.vllm.capability import supports as vllm_supports
from attnconf.backends.flashinfer.fa import make_fa2
from attnconf.backends.flashinfer.trtllm_mha import contract
from attnconf.backends.flashinfer.trtllm_mha.calls import build_call, build_metadata
from attnconf.backends.flashinfer.trtllm_mha.capability import supports as trtllm_supports
from attnconf.backends.flashinfer.trtllm_mha.workspace import workspace
from attnconf.backends.protocol import Unsupported
from attnconf.bounded import out_units
from attnconf.cases.case import Case, Layer, Paging, Poison
from attnconf.cases.drawing.profiles import profile_named
from attnconf.cases.inputs.target import make_target
from attnconf.cases.request import Request
from attnconf.judging.checks.catalogue import all_checks
from attnconf.judging.posed import PosedCase
from attnconf.judging.result import Outcome
from attnconf.judging.run import run_case
from attnconf.platforms import Platform, detect, simulate
from attnconf.precision import NumericsProfile
from attnconf.running.session import Session
from conformance.tests.support.shapes import a_shape

CPU = torch.device("cpu")
SESSION = Session(platform=detect(), profile=profile_named("smoke"))
FULL = Layer(kind="full", num_qo_heads=6, num_kv_heads=2, head_dim=64, sm_scale=0.125)
SLIDING = FULL.model_copy(update={"kind": "sliding", "window_left": 20})
LAYERS = (
    FULL,
    SLIDING,
    SLIDING.model_copy(update={"window_left": 2}),
    FULL.model_copy(update={"kind": "chunked", "chunk_size": 20}),
    FULL.model_copy(update={"kv_owner": 0, "sm_scale": 0.2}),
)
EAGLE = (-1, 0, 0, 1, 1, 2)
WIDE = (-1, *(max(0, token - 4) for token in range(1, 40)))
"""Four chains behind one token: 40 tokens, past a word of mask bits and past the kernels for few tokens."""


def a_case(**changes: Any) -> Case:  # noqa: ANN401 - any field
    fields: dict[str, Any] = {
        "mode": "verify",
        "layers": LAYERS,
        "requests": (
            Request(prefix_len=44, new_tokens=6, tree=EAGLE),
            Request(prefix_len=21, new_tokens=3),
            Request(new_tokens=40, tree=WIDE),
        ),
        "paging": Paging(page_size=8, hybrid=True, reclaimed=True),
        "poison": Poison(k="nan", v="nan"),
        "padding_rows": 1,
    }
    return Case.model_validate(fields | changes)


@pytest.mark.parametrize("backend", ["reference", "torch_sdpa", "triton"])
def test_every_layer_is_answered_right(backend: str) -> None:
    if backend == "triton":
        layers = (LAYERS[0], LAYERS[2], LAYERS[3])
        result = run_case(a_case(layers=layers), SESSION.backend(backend), SESSION.platform, CPU)
    else:
        result = run_case(a_case(), SESSION.backend(backend), SESSION.platform, CPU, choose=all_checks)
    assert {one.outcome for one in result.layers} == {Outcome.PASSED}, result
    assert all("tree" in one.effective for one in result.layers)


def test_split_keys_of_a_tree_are_merged() -> None:
    case = a_case(layers=(FULL, SLIDING), requests=(Request(prefix_len=1700, new_tokens=6, tree=EAGLE),))
    result = run_case(case, SESSION.backend("triton"), SESSION.platform, CPU)
    assert {one.outcome for one in result.layers} == {Outcome.PASSED}, result


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_a_row_of_a_tree_is_the_last_row_of_its_branch_alone(layer: int) -> None:
    """The definition once more: a draft's answer is that of a chain of its branch, whatever stands beside it."""
    layers = (LAYERS[layer],)
    tree = Request(prefix_len=30, new_tokens=6, tree=EAGLE)
    posed = PosedCase(a_case(layers=layers, requests=(tree,), padding_rows=0), CPU)
    problem = posed.scene(0, 0).problem
    exact = NumericsProfile()
    whole = posed.answer(0, 0, exact)
    from dataclasses import replace

    from attnconf.cases import trees
    from attnconf.oracle.attention import attend

    for row in range(6):
        branch = trees.branch(EAGLE, row)
        keys = torch.tensor([*range(30), *(30 + token for token in branch)])
        alone = replace(
            problem,
            q=problem.q[[row]],
            k=problem.k[keys],
            v=problem.v[keys],
            positions=torch.tensor([30 + len(branch) - 1]),
            tree=(),
            tokens=(),
        )
        assert torch.allclose(attend(alone).out[0], whole.answer.out[row], rtol=1e-12, atol=1e-12)


def test_xqa_gets_the_mask_of_a_tree_and_its_contract_is_right_with_it() -> None:
    requests = (Request(prefix_len=44, new_tokens=6, tree=EAGLE), Request(prefix_len=20, new_tokens=6))
    case = a_case(layers=(FULL,), requests=requests, paging=Paging(page_size=16), poison=Poison(), padding_rows=0)
    posed = PosedCase(case, CPU)
    target = make_target(posed.batch, 0, lse=False)
    metadata = build_metadata(posed.batch, "xqa")
    scratch = workspace(CPU, "xqa")
    call = build_call("xqa", posed.batch, 0, metadata, workspace=scratch, out=target.out, lse=None)
    assert call.arguments["mask"][0, :, 0].tolist() == [0b1, 0b11, 0b101, 0b1011, 0b10011, 0b100101]
    assert call.arguments["mask"][1, :, 0].tolist() == [0b1, 0b11, 0b111, 0b1111, 0b11111, 0b111111]
    arguments = {"lse": None, "sinks": None, "mask": None, **call.arguments}
    contract.execute(call.function, arguments)
    for request in range(2):
        expected = posed.answer(0, request, NumericsProfile())
        rows = posed.rows(request)
        assert float(out_units(target.out[rows], expected).max()) <= 1.0


@pytest.mark.parametrize(
    ("changes", "sm", "reason"),
    [
        ({}, (9, 0), None),
        ({"windowed": True}, (9, 0), "XQA counts a window from a draft's place"),
        ({"kv_dtype": "float8_e4m3fn"}, (9, 0), "mask of drafts over float8_e4m3fn KV on SM 9.0"),
        ({}, (10, 0), "trtllm-gen decode takes no mask of drafts"),
    ],
)
def test_trtllm_mha_takes_trees_where_xqa_masks_them(
    changes: dict[str, Any], sm: tuple[int, int], reason: str | None
) -> None:
    shape = a_shape(mode="verify", max_q_len=6, tree=True, **changes)
    platform = Platform(sm=sm, cuda="13.0", packages={"flashinfer-python": "0.6.18.post1"}, simulated=True)
    said = trtllm_supports(shape, platform)
    assert (said is None) if reason is None else (said is not None and reason in said.reason), said


def test_the_others_decline_trees() -> None:
    shape = a_shape(mode="verify", max_q_len=6, tree=True, q_dtype="float16", kv_dtype="float16", storage="sliced")
    packages = {"sglang": "0.5.23", "vllm": "0.33.0", "triton": "3.9.0", "torch": "2.13.0"}
    for supports in (triton_supports, vllm_supports):
        said = supports(shape, Platform(packages=packages))
        assert isinstance(said, Unsupported)
        assert "tree" in said.reason or "topk" in said.reason
    fa2 = make_fa2(simulate("9.0")).supports(shape, simulate("9.0"))
    assert fa2 is not None
    assert "the drafts of a tree" in fa2.reason
