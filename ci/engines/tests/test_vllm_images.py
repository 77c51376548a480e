"""vLLM 0.33.0 on images: its own ranges through its own layers, as its Gemma 4 has them, and what would be seen."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest
import torch

from attnconf.backends.engines.vllm.backend import VllmTriton, make_triton
from attnconf.cases.case import Case, Layer, Paging
from attnconf.cases.request import Request
from attnconf.judging.checks.catalogue import CHECKS
from attnconf.judging.result import Outcome
from attnconf.judging.run import run_case
from attnconf.platforms import detect

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from attnconf.judging.result import LayerResult
    from ci.engines.tests.conftest import Finding, Judge

    Broken = Callable[[pytest.MonkeyPatch], None]

IMPL = "vllm.v1.attention.backends.triton_attn"
MODEL = "vllm.model_executor.models.gemma4_mm"
SLIDING = Layer(kind="sliding", window_left=20, num_qo_heads=4, num_kv_heads=2, head_dim=32, sm_scale=0.2, spans=True)
FULL = Layer(kind="full", num_qo_heads=3, num_kv_heads=1, head_dim=64, sm_scale=0.2)
WITHIN = Request(prefix_len=10, new_tokens=28, spans=((14, 26), (30, 34)))
BEGUN = Request(prefix_len=12, new_tokens=12, spans=((6, 18),))
"""Of its image a part is in the cache."""
LONG = Request(new_tokens=40, spans=((4, 34),))
"""Longer than the window, as Gemma 4's images of up to 1,120 tokens are beside its 1,024."""
MODES = {"extend": (WITHIN, BEGUN, LONG), "mixed": (BEGUN, Request(prefix_len=40, spans=((30, 41),)), WITHIN)}


@pytest.fixture(scope="session")
def vllm() -> VllmTriton:
    return make_triton(detect())


def case(mode: str, **changes: object) -> Case:
    """Layers of Gemma 4, whose sliding ones follow images, and one that reads the keys of another."""
    fields: dict[str, Any] = {
        "mode": mode,
        "q_dtype": "float16",
        "kv_dtype": "float16",
        "layers": (SLIDING, FULL, SLIDING.model_copy(update={"kv_owner": 0})),
        "requests": MODES[mode],
        "paging": Paging(page_size=16, storage="sliced", hybrid=True),
    }
    return Case.model_validate({**fields, **changes})


def answered(vllm: VllmTriton, asked: Case) -> Sequence[LayerResult]:
    """Return the layers of one answer, held against its bound and not explained."""
    return run_case(asked, vllm, vllm.platform, torch.device("cpu"), choose=lambda _: CHECKS[:1]).layers


@pytest.mark.parametrize("mode", MODES)
def test_sliding_layers_follow_images_and_full_ones_do_not(vllm: VllmTriton, judge: Judge, mode: str) -> None:
    result = judge(vllm, case(mode))
    assert [(layer.outcome, layer.reason, layer.failures) for layer in result.layers] == [(Outcome.PASSED, "", ())] * 3
    assert ["spans" in layer.effective for layer in result.layers] == [True, False, True]


def test_all_layers_follow_them_where_the_model_says_so(vllm: VllmTriton, judge: Judge) -> None:
    """As in Gemma 3."""
    layers = (SLIDING, FULL.model_copy(update={"spans": True}))
    result = judge(vllm, case("extend", layers=layers))
    assert [layer.outcome for layer in result.layers] == [Outcome.PASSED] * 2
    assert all("spans" in layer.effective for layer in result.layers)


def _nothing_left_out(patch: pytest.MonkeyPatch) -> None:
    model = importlib.import_module(MODEL).Gemma4ForConditionalGeneration
    patch.setattr(model, "_clear_mm_prefix_for_full_attn_layers", lambda _: None)


def _no_cut_by_the_window(patch: pytest.MonkeyPatch) -> None:
    layer = importlib.import_module("vllm.model_executor.layers.attention").Attention
    made = layer.__init__

    def unclamped(self: Any, *args: object, **kwargs: Any) -> None:  # noqa: ANN401 - vLLM's class
        made(self, *args, **{**kwargs, "mm_prefix_clamp_sliding_window": False})

    patch.setattr(layer, "__init__", unclamped)


def _no_ranges(patch: pytest.MonkeyPatch) -> None:
    builder = vars(importlib.import_module(IMPL))["TritonAttentionMetadataBuilder"]
    build = builder.build

    def without(self: Any, prefix: int, common: Any) -> Any:  # noqa: ANN401 - vLLM's classes
        common.mm_req_doc_ranges = None
        return build(self, prefix, common)

    patch.setattr(builder, "build", without)


@pytest.mark.parametrize(
    ("broken", "failing"),
    [
        (_nothing_left_out, [False, True]),
        (_no_cut_by_the_window, [True, False]),
        (_no_ranges, [True, False]),
    ],
)
def test_a_mistake_of_vllm_with_images_would_be_seen(
    vllm: VllmTriton, monkeypatch: pytest.MonkeyPatch, broken: Broken, failing: list[bool]
) -> None:
    broken(monkeypatch)
    layers = answered(vllm, case("extend", layers=(SLIDING, FULL), requests=(LONG,)))
    assert [layer.worst_units > 10 for layer in layers] == failing


def test_the_finding_of_the_image_behind_the_chunk_holds(vllm: VllmTriton, finding: Finding) -> None:
    (layer,) = answered(vllm, finding("vllm-triton-image-cut"))
    assert layer.worst_units > 100
