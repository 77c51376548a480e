"""A scale for each KV head: who takes them is right, and who has one number for all says so."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from attnconf.backends.flashinfer.fa import capability as fa
from attnconf.backends.flashinfer.fa.calls import run_arguments
from attnconf.backends.flashinfer.fa.variant import variant_of_shape
from attnconf.backends.flashinfer.trtllm_mha import capability as trtllm
from attnconf.backends.reference import make as make_reference
from attnconf.backends.torch_sdpa import make as make_sdpa
from attnconf.backends.triton import make as make_triton
from attnconf.cases.case import Case, Layer, Paging
from attnconf.cases.drawing.draws import Draws
from attnconf.cases.drawing.families import space_of
from attnconf.cases.dtypes import E5M2, FP8
from attnconf.cases.request import Request
from attnconf.cases.shape import batch_shape, kernel_shape
from attnconf.judging.checks.siblings import siblings
from attnconf.judging.posed import PosedCase
from attnconf.judging.run import run_case
from attnconf.platforms import Platform, detect
from conformance.tests.support.shapes import a_shape

CPU = torch.device("cpu")
MAKERS = {"reference": make_reference, "torch_sdpa": make_sdpa, "triton": make_triton}
LAYER = Layer(
    kind="sliding", window_left=30, num_qo_heads=6, num_kv_heads=3, head_dim=64, sm_scale=0.125,
    k_scales=(0.5, 2.0, 0.25), v_scales=(16.0, 0.25, 1.5),
)  # fmt: skip
READER = LAYER.model_copy(update={"kv_owner": 0, "k_scales": (4.0, 0.5, 0.5), "v_scales": (1.0, 2.0, 3.0)})


def make(mode: str = "extend", **changes: object) -> Case:
    new = 1 if mode == "decode" else 5
    given = {
        "mode": mode,
        "kv_dtype": FP8,
        "layers": (LAYER, READER),
        "requests": (Request(prefix_len=60, new_tokens=new), Request(prefix_len=7, new_tokens=new)),
        "paging": Paging(page_size=16, layout="HND"),
        "seed": 3,
    }
    return Case(**{**given, **changes})


@pytest.mark.parametrize("mode", ["extend", "decode", "verify"])
@pytest.mark.parametrize("kv_dtype", [FP8, E5M2])
@pytest.mark.parametrize("name", MAKERS)
def test_each_head_has_its_own_scales_and_a_reader_those_of_the_owner(name: str, kv_dtype: str, mode: str) -> None:
    result = run_case(make(mode, kv_dtype=kv_dtype), MAKERS[name](detect()), detect(), CPU)
    assert {layer.outcome.value for layer in result.layers} == {"passed"}, result.layers
    if name != "torch_sdpa":
        assert "head_scales" in result.layers[0].effective


def test_split_keys_are_merged_with_the_scales_of_their_heads() -> None:
    full = LAYER.model_copy(update={"kind": "full", "window_left": -1})
    case = make("decode", layers=(full,), requests=(Request(prefix_len=1700),), paging=Paging(page_size=64))
    assert not run_case(case, make_triton(detect()), detect(), CPU).is_failure


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"v_scales": ()}, "k_scales and v_scales come together"),
        ({"k_scales": (0.5, 2.0)}, "k_scales has 2 numbers, not one for each of 3 KV heads"),
        ({"v_scales": (2.0, 2.0, 2.0)}, "v_scales is 2.0 for all heads: that is v_scale"),
        ({"k_scale": 0.5}, "with k_scales, k_scale is 1, not 0.5"),
    ],
)
def test_what_cannot_be_said_is_one_sentence(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Layer.model_validate(LAYER.model_dump() | changes)


def test_scales_of_heads_belong_to_8_bits() -> None:
    with pytest.raises(ValidationError, match="k_scales and v_scales belong to KV of 8 or 4 bits, not to bfloat16"):
        make(kv_dtype="bfloat16")


def test_the_shape_of_a_layer_says_so_and_the_batch_has_the_owners_numbers() -> None:
    batch = PosedCase(make(), CPU).batch
    assert batch_shape(batch, 1).head_scales
    assert kernel_shape(make(), 1).head_scales
    assert batch.caches[batch.layers[1].cache].k_scales.tolist() == list(LAYER.k_scales)
    assert {"caches[0].k_scales", "caches[0].v_scales"} <= {name for name, _ in batch.tensors()}
    plain = make(layers=(LAYER.model_copy(update={"k_scales": (), "v_scales": ()}),))
    assert not kernel_shape(plain, 0).head_scales


def test_fa3_is_given_the_scales_of_heads_and_fa2_declines() -> None:
    on = Platform(sm=(9, 0), cuda="12.8", packages={"flashinfer-python": "0.6.18.post1"})
    eight = a_shape(q_dtype=FP8, kv_dtype=FP8, head_dim=128, head_scales=True)
    assert fa.supports(variant_of_shape("fa3", eight), on) is None
    sixteen = a_shape(kv_dtype=FP8, head_dim=128, head_scales=True)
    assert "one k_scale and one v_scale for all heads" in fa.supports(variant_of_shape("fa2", sixteen), on).reason
    layers = (LAYER.model_copy(update={"q_scale": 0.5}),)
    batch = PosedCase(make(q_dtype=FP8, out_dtype="bfloat16", layers=layers), CPU).batch
    _, (q, k, v) = run_arguments(batch, 0, torch.empty(0), None)
    assert (q.tolist(), k.tolist(), v.tolist()) == ([0.5] * 6, list(LAYER.k_scales), list(LAYER.v_scales))


@pytest.mark.parametrize("mode", ["decode", "extend"])
@pytest.mark.parametrize("sm", [(9, 0), (10, 0), (12, 0)])
def test_no_kernel_of_tensorrt_llm_takes_them(sm: tuple[int, int], mode: str) -> None:
    on = Platform(sm=sm, cuda="12.8", packages={"flashinfer-python": "0.6.18.post1"}, simulated=True)
    shape = a_shape(kv_dtype=FP8, head_dim=128, mode=mode, max_q_len=1 if mode == "decode" else 9, head_scales=True)
    assert "one factor for all heads" in trtllm.supports(shape, on).reason


def test_a_sibling_has_other_scales_of_heads() -> None:
    found = dict(siblings(make(), 0))
    assert found["the scales of heads"].layers[0].k_scales == (1.0, 4.0, 0.5)
    assert found["the dtype of keys and values"].layers[0].k_scales == ()
    for one in found.values():
        assert Case.model_validate(one.model_dump(by_alias=True)) == one


def test_they_are_drawn_now_and_then_for_layers_of_several_heads() -> None:
    cases = Draws(replace(space_of("free", "free", accelerated=False, max_kv_len=60, kv_dtype=FP8)), 1, 300).cases
    layers = [layer for case in cases for layer in case.layers]
    share = sum(bool(layer.k_scales) for layer in layers) / len(layers)
    assert 0.04 < share < 0.2
    assert all(layer.num_kv_heads > 1 for layer in layers if layer.k_scales)
    assert all(one != other for layer in layers for one, other in zip(layer.k_scales, layer.v_scales, strict=True))
