"""Formats of keys and values that few serve: who reads them is right, and who does not says so."""

from __future__ import annotations

import pytest
import torch
from packaging.version import Version

from attnconf.backends.engines.sglang.capability import triton_supports as sglang_supports
from attnconf.backends.flashinfer.fa import capability as fa
from attnconf.backends.flashinfer.fa.modules import module_name, read
from attnconf.backends.flashinfer.fa.variant import variant_of_shape
from attnconf.backends.flashinfer.trtllm_mha import capability as trtllm
from attnconf.backends.reference import make as make_reference
from attnconf.backends.torch_sdpa import make as make_sdpa
from attnconf.backends.triton import make as make_triton
from attnconf.cases.case import Case, Layer, Paging
from attnconf.cases.drawing.draws import Draws
from attnconf.cases.drawing.families import space_of
from attnconf.cases.drawing.scales import WIDE_K_SCALES, WIDE_V_SCALES
from attnconf.cases.dtypes import E5M2, FP8
from attnconf.cases.inputs.logical import make_logical
from attnconf.cases.request import Request
from attnconf.judging.checks.siblings import siblings
from attnconf.judging.run import run_case
from attnconf.platforms import Platform, detect
from attnconf.policy.requirements import Requirement
from conformance.tests.support.shapes import a_shape

MAKERS = {"reference": make_reference, "torch_sdpa": make_sdpa, "triton": make_triton}
LAYER = Layer(
    kind="sliding", window_left=30, num_qo_heads=4, num_kv_heads=2, head_dim=64, sm_scale=0.125,
    k_scale=0.5, v_scale=16.0,
)  # fmt: skip


def make(layer: Layer = LAYER, mode: str = "extend", **changes: object) -> Case:
    new = 1 if mode == "decode" else 5
    given = {
        "mode": mode,
        "kv_dtype": E5M2,
        "layers": (layer,),
        "requests": (Request(prefix_len=60, new_tokens=new), Request(prefix_len=7, new_tokens=new)),
        "paging": Paging(page_size=16, layout="HND"),
        "seed": 3,
    }
    return Case(**{**given, **changes})


def on(sm: tuple[int, int], version: str = "0.6.18.post1") -> Platform:
    packages = {"flashinfer-python": version, "triton": "3.6.0"}
    return Platform(sm=sm, cuda="12.8", packages=packages, simulated=True)


@pytest.mark.parametrize("mode", ["extend", "decode"])
@pytest.mark.parametrize("q_dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", MAKERS)
def test_keys_and_values_in_e5m2_are_read(name: str, q_dtype: str, mode: str) -> None:
    result = run_case(make(mode=mode, q_dtype=q_dtype), MAKERS[name](detect()), detect(), torch.device("cpu"))
    assert {layer.outcome.value for layer in result.layers} == {"passed"}, result.layers


def test_infinities_of_e5m2_may_lie_in_dead_slots() -> None:
    case = make(poison={"k": "inf", "v": "inf"})
    assert not run_case(case, make_reference(detect()), detect(), torch.device("cpu")).is_failure


@pytest.mark.parametrize("scale", sorted({*WIDE_K_SCALES, *WIDE_V_SCALES}))
def test_stored_numbers_are_finite_and_reach_both_ends_of_the_format(scale: float) -> None:
    k = make_logical(make(LAYER.model_copy(update={"k_scale": scale, "v_scale": 3.0}))).layers[0].k.float()
    assert k.isfinite().all()
    if scale == min(WIDE_V_SCALES):
        assert float(k.abs().max()) == 57_344.0
    if scale == max(WIDE_V_SCALES):
        assert float((k.abs() < 2.0**-14).float().mean()) > 0.5


@pytest.mark.parametrize(
    ("template", "sm", "changes", "reason"),
    [
        ("fa2", (8, 0), {"head_dim": 128}, ""),
        ("fa2", (9, 0), {"head_dim": 256}, ""),
        ("fa2", (9, 0), {"head_dim": 64}, "not known to read float8_e5m2 KV at head_dim 64"),
        ("fa2", (9, 0), {"head_dim": 512}, "not known to read float8_e5m2 KV at head_dim 512"),
        ("fa3", (9, 0), {"head_dim": 128}, "float8_e5m2 KV only under a float8_e5m2 query, not under bfloat16"),
    ],
)
def test_flashinfer_reads_e5m2_where_it_reads_e4m3(
    template: str, sm: tuple[int, int], changes: dict, reason: str
) -> None:
    variant = variant_of_shape(template, a_shape(kv_dtype=E5M2, **changes))
    declined = fa.supports(variant, on(sm))
    assert (declined is None) if not reason else (declined is not None and reason in declined.reason)


def test_the_name_of_a_module_over_e5m2_is_read_as_it_is_written() -> None:
    variant = variant_of_shape("fa2", a_shape(kv_dtype=E5M2, head_dim=128))
    name = module_name(variant, Version("0.6.18"))
    assert "dtype_kv_e5m2" in name
    assert read(name) == variant


@pytest.mark.parametrize("mode", ["decode", "extend"])
@pytest.mark.parametrize("sm", [(9, 0), (10, 0), (12, 0)])
def test_no_kernel_of_tensorrt_llm_reads_e5m2(sm: tuple[int, int], mode: str) -> None:
    shape = a_shape(kv_dtype=E5M2, head_dim=128, mode=mode, max_q_len=1 if mode == "decode" else 9)
    assert "float8_e5m2" in trtllm.supports(shape, on(sm)).reason


def test_sglang_and_triton_say_what_they_do_with_e5m2() -> None:
    assert sglang_supports(a_shape(kv_dtype=E5M2), on((9, 0))) is not None
    shape = a_shape(kv_dtype=E5M2)
    assert make_triton(on((8, 0))).supports(shape, on((8, 0))) is None


def test_a_call_over_one_format_has_a_sibling_over_the_other() -> None:
    case = make(layers=(LAYER,), poison={"k": "inf", "v": "nan"})
    other = dict(siblings(case, 0))["the format of keys and values"]
    assert (other.kv_dtype, other.poison.k, other.layers[0].k_scale) == (FP8, "huge", LAYER.k_scale)
    assert dict(siblings(other, 0))["the format of keys and values"].kv_dtype == E5M2
    assert Case.model_validate(other.model_dump(by_alias=True)) == other


@pytest.mark.parametrize(("family", "model"), [("free", "free"), ("decode", "gemma4-e2b")])
@pytest.mark.parametrize("accelerated", [False, True])
def test_a_format_alone_is_drawn_where_it_is_asked_for(family: str, model: str, *, accelerated: bool) -> None:
    space = space_of(family, model, accelerated=accelerated, max_kv_len=100, kv_dtype=E5M2)
    cases = Draws(space, 1, 12).cases
    assert {case.kv_dtype for case in cases} == {E5M2}
    assert {case.q_dtype for case in cases} <= {"bfloat16", "float16"}


def test_e5m2_is_drawn_now_and_then() -> None:
    cases = Draws(space_of("decode", "gemma4-e2b", accelerated=False, max_kv_len=100), 1, 200).cases
    share = sum(case.kv_dtype == E5M2 for case in cases) / len(cases)
    assert 0.02 < share < 0.15


def test_a_policy_may_require_it() -> None:
    requirement = Requirement(
        architectures=("A",),
        models=("llama3-8b",),
        layer_kinds=("full",),
        modes=("decode",),
        dtypes=("bfloat16+float8_e5m2",),
    )
    (cell,) = requirement.cells(prefill="triton", decode="triton")
    assert cell.dtypes == make().dtypes.text
