"""8-bit queries and answers: every backend that takes them counts their scales, and none that a 16-bit layer has."""

from __future__ import annotations

import pytest
import torch

from attnconf.backends.flashinfer.trtllm_mha.backend import make as make_trtllm_mha
from attnconf.backends.reference import make as make_reference
from attnconf.backends.torch_sdpa import make as make_sdpa
from attnconf.backends.triton import make as make_triton
from attnconf.cases.case import Case, Layer, Paging
from attnconf.cases.drawing.scales import Q_DEVIATIONS, q_scales
from attnconf.cases.dtypes import FP8, Dtypes, read_dtypes
from attnconf.cases.inputs.logical import make_logical
from attnconf.cases.request import Request
from attnconf.cases.shape import kernel_shape
from attnconf.judging.run import run_case
from attnconf.platforms import detect

MAKERS = {"reference": make_reference, "torch_sdpa": make_sdpa, "triton": make_triton, "trtllm_mha": make_trtllm_mha}
LAYER = Layer(
    kind="sliding", window_left=30, num_qo_heads=4, num_kv_heads=2, head_dim=64, sm_scale=0.125,
    k_scale=0.5, v_scale=16.0, q_scale=0.25, out_scale=0.25,
)  # fmt: skip
READER = LAYER.model_copy(update={"kv_owner": 0, "q_scale": 3.0, "out_scale": 0.05})
DTYPES = ((FP8, "bfloat16"), (FP8, "float16"), (FP8, FP8), ("bfloat16", FP8), ("bfloat16", None))


def make(q_dtype: str, out_dtype: str | None, mode: str = "extend") -> Case:
    new = 1 if mode == "decode" else 5
    return Case(
        mode=mode,
        q_dtype=q_dtype,
        kv_dtype=FP8,
        out_dtype=out_dtype,
        layers=(LAYER, READER),
        requests=(Request(prefix_len=60, new_tokens=new), Request(prefix_len=7, new_tokens=new)),
        paging=Paging(page_size=16, layout="HND"),
        seed=3,
    )


@pytest.mark.parametrize("mode", ["extend", "decode"])
@pytest.mark.parametrize(("q_dtype", "out_dtype"), DTYPES)
@pytest.mark.parametrize("name", MAKERS)
def test_it_is_right_or_declined(name: str, q_dtype: str, out_dtype: str | None, mode: str) -> None:
    backend, platform = MAKERS[name](detect()), detect()
    case = make(q_dtype, out_dtype, mode)
    declined = backend.supports(kernel_shape(case, 0), platform)
    result = run_case(case, backend, platform, torch.device("cpu"))
    outcomes = {layer.outcome.value for layer in result.layers}
    if name == "trtllm_mha" and declined is not None:
        assert outcomes == {"unsupported"}
    else:
        assert outcomes == {"contract_only" if name == "trtllm_mha" else "passed"}, result.layers


def test_an_8_bit_answer_that_nobody_wrote_is_noticed_and_a_nan_is_no_such_answer() -> None:
    from attnconf.cases.inputs.target import make_target
    from attnconf.judging.posed import PosedCase

    target = make_target(PosedCase(make(FP8, FP8), torch.device("cpu")).batch, 0, lse=False)
    assert target.unwritten == target.elements
    target.out.copy_(torch.full(target.out.shape, torch.nan))
    assert target.unwritten == 0


def test_queries_are_stored_within_the_format_whatever_their_scale() -> None:
    for q_scale in q_scales(LAYER):
        for seed in (1, 2, 3):  # 1 and 2 lower and raise all scores
            layers = (LAYER.model_copy(update={"q_scale": q_scale}),)
            q = make_logical(make(FP8, FP8).model_copy(update={"layers": layers, "seed": seed})).layers[0].q.float()
            assert q.isfinite().all()
            assert float((q.abs() == 448.0).float().mean()) < 0.01


def test_no_drawn_scale_of_queries_is_so_near_to_1_that_its_loss_would_not_show() -> None:
    for sm_scale in (2.0**-16, 0.001, 0.0625, 1.0, 7.0):
        scales = q_scales(LAYER.model_copy(update={"sm_scale": sm_scale}))
        assert len(scales) >= len(Q_DEVIATIONS) - 1
        assert all(abs(scale - 1.0) > 0.25 for scale in scales)


@pytest.mark.parametrize("dtypes", [Dtypes("bfloat16", FP8, FP8), Dtypes(FP8, FP8, "float16"), Dtypes(FP8, FP8, FP8)])
def test_the_word_for_dtypes_is_read_as_it_is_written(dtypes: Dtypes) -> None:
    assert read_dtypes(dtypes.text) == dtypes


def test_the_word_for_dtypes_names_only_what_differs() -> None:
    assert Dtypes("bfloat16", "bfloat16", "bfloat16").text == "bfloat16"
    assert kernel_shape(make("bfloat16", None), 0).out_dtype == "bfloat16"
    assert make(FP8, "bfloat16").dtypes.text == "float8_e4m3fn->bfloat16"
    assert make("bfloat16", FP8).dtypes.text == "bfloat16+float8_e4m3fn->float8_e4m3fn"
