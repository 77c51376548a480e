"""sglang 0.5.23's own attention backends: what they answer, what they are known to get wrong, and what would be seen.

``make engines`` installs the engine and runs this; it is no part of ``make test``.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch

from attnconf.backends.engines.sglang.library import library
from attnconf.backends.engines.sglang.trtllm import SglangTrtllmMha
from attnconf.cases.case import Case, Layer, Paging
from attnconf.cases.drawing.profiles import GEMMA4
from attnconf.cases.dtypes import Dtypes
from attnconf.cases.inputs.assemble import assemble
from attnconf.cases.inputs.layout import place
from attnconf.cases.inputs.logical import make_logical
from attnconf.cases.request import Request
from attnconf.errors import UnsupportedError
from attnconf.judging.result import Outcome
from ci.engines.fitting import fitting_cases

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.backends.protocol import Backend, Unsupported
    from attnconf.cases.shape import KernelShape
    from attnconf.judging.result import CaseResult
    from attnconf.platforms import Platform

    Finding = Callable[[str], Case]
    Judge = Callable[..., CaseResult]
    Broken = Callable[[pytest.MonkeyPatch], None]

REQUESTS = {
    "decode": (Request(prefix_len=21), Request(prefix_len=3)),
    "extend": (Request(prefix_len=18, new_tokens=9), Request(new_tokens=4)),
    "mixed": (Request(prefix_len=18, new_tokens=9), Request(prefix_len=20)),
    "verify": (Request(prefix_len=18, new_tokens=3), Request(prefix_len=2, new_tokens=3)),
}
KERNELS = {
    "decode": "forward_decode",
    "extend": "forward_extend",
    "mixed": "forward_extend",
    "verify": "forward_extend",
}
DOCUMENTED = {
    "decode": {"trtllm_batch_decode_with_kv_cache"},
    "extend": {"trtllm_batch_context_with_kv_cache"},
    "mixed": {"trtllm_batch_context_with_kv_cache", "trtllm_batch_decode_with_kv_cache"},
    "verify": {"trtllm_batch_decode_with_kv_cache"},
}


def case(mode: str, **changes: object) -> Case:
    """A model with full and sliding layers, one of each redirected, in a hybrid pool; a window that masks keys."""
    full = Layer(kind="full", num_qo_heads=4, num_kv_heads=1, head_dim=128, sm_scale=0.1)
    sliding = Layer(kind="sliding", window_left=6, num_qo_heads=4, num_kv_heads=2, head_dim=64, sm_scale=0.1)
    shared = [layer.model_copy(update={"kv_owner": owner}) for owner, layer in enumerate((full, sliding))]
    return Case.model_validate(
        {
            "mode": mode,
            "q_dtype": "float16",
            "kv_dtype": "float16",
            "layers": (full, sliding, *shared),
            "requests": REQUESTS[mode],
            "paging": Paging(page_size=16, hybrid=True, extra_columns=1, table_tail="stale"),
            **changes,
        }
    )


def sentences(result: CaseResult) -> list[str]:
    found = [failure.summary for layer in result.layers for failure in layer.failures]
    return found + [layer.reason for layer in result.layers if layer.reason]


@pytest.mark.parametrize("mode", REQUESTS)
def test_triton_answers_every_mode_once_a_decode_sees_its_whole_window(
    whole_window: Backend, judge: Judge, mode: str
) -> None:
    result = judge(whole_window, case(mode), thorough=True)
    assert sentences(result) == []
    assert [layer.outcome for layer in result.layers] == [Outcome.PASSED] * 4
    assert {layer.kernel for layer in result.layers} == {f"TritonAttnBackend.{KERNELS[mode]}[interpreted]"}


@pytest.mark.parametrize("model", GEMMA4)
def test_triton_decodes_every_gemma_4_once_it_sees_its_whole_window(
    whole_window: Backend, judge: Judge, model: str
) -> None:
    """The suite draws few decodes of the large sizes on a CPU, and most in dtypes that the interpreter cannot do."""
    drawn = fitting_cases(
        "decode", model, storage="apart", dtypes=(Dtypes("float16", "float16", "float16"),), max_kv_len=200, examples=1
    )
    results = [judge(whole_window, asked) for asked in drawn]
    assert [sentence for result in results for sentence in sentences(result)] == []
    assert {layer.outcome for result in results for layer in result.layers} == {Outcome.PASSED}
    assert {"full", "sliding"} <= {layer.kind for asked in drawn for layer in asked.layers}


@pytest.mark.parametrize("mode", REQUESTS)
def test_trtllm_mha_makes_documented_calls_in_every_mode(trtllm_mha: Backend, judge: Judge, mode: str) -> None:
    result = judge(trtllm_mha, case(mode), thorough=True)
    assert sentences(result) == []
    assert [layer.outcome for layer in result.layers] == [Outcome.CONTRACT_ONLY] * 4
    for layer in result.layers:
        head, _, called = layer.kernel.rpartition(":")
        assert head == "TRTLLMHAAttnBackend: contract"
        assert set(called.split("+")) == DOCUMENTED[mode]


def test_the_finding_of_the_decode_window_holds_and_is_no_more_than_that(
    triton: Backend, whole_window: Backend, trtllm_mha: Backend, judge: Judge, finding: Finding
) -> None:
    """When sglang repairs it, this fails: then the page, the plugin and the tested version change together."""
    asked = finding("sglang-triton-decode-window")
    (layer,) = judge(triton, asked).layers
    assert layer.worst_units > 100
    (failure,) = layer.failures
    assert failure.clause == 2
    assert failure.suspicion.startswith("the oldest key of the window is lost: window_left keys, not window_left + 1")
    assert judge(whole_window, asked).layers[0].outcome is Outcome.PASSED
    assert judge(trtllm_mha, asked).layers[0].outcome is Outcome.CONTRACT_ONLY
    as_extend = asked.model_copy(update={"mode": "extend"})
    assert judge(triton, as_extend).layers[0].worst_units < 1
    assert judge(whole_window, as_extend).layers[0].outcome is Outcome.PASSED


class _AskedAnyway(SglangTrtllmMha):
    def supports(self, shape: KernelShape, platform: Platform) -> Unsupported | None:
        return super().supports(replace(shape, soft_cap=False), platform)


@pytest.mark.parametrize("mode", ["decode", "extend"])
def test_the_finding_of_the_soft_cap_holds(trtllm_mha: Backend, judge: Judge, finding: Finding, mode: str) -> None:
    asked = finding("sglang-trtllm-mha-soft-cap").model_copy(update={"mode": mode})
    assert judge(trtllm_mha, asked).layers[0].outcome is Outcome.UNSUPPORTED
    (layer,) = judge(_AskedAnyway(trtllm_mha.platform, trtllm_mha.flashinfer), asked).layers
    assert layer.worst_units > 100
    assert layer.failures[0].clause == 3
    uncapped = asked.model_copy(update={"layers": (asked.layers[0].model_copy(update={"logits_soft_cap": None}),)})
    assert judge(trtllm_mha, uncapped).layers[0].outcome is Outcome.CONTRACT_ONLY


def test_gemma_2_gets_trtllm_mha_by_default_on_sm100() -> None:
    sglang = library()
    base = importlib.import_module("sglang.srt.arg_groups.model_override_base")
    model = SimpleNamespace(hf_config=SimpleNamespace(architectures=["Gemma2ForCausalLM"]), has_asymmetric_kv=False)
    with sglang.running(), sglang.override_platform(is_sm100=True, is_hopper_with_cuda_12_3=False):
        assert (
            base.get_default_attn_backend(sglang.arguments, use_mla_backend=False, model_config=model) == "trtllm_mha"
        )


def _no_translation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library().SWATokenToKVPoolAllocator, "set_full_to_swa_mapping", lambda *_: None)


def _write_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = library().MHATokenToKVPool
    kept = pool._store_kv_layer

    def beside(self: object, layer: int, loc: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
        kept(self, layer, loc.roll(1) if loc.numel() > 1 else loc * 0, k, v)

    monkeypatch.setattr(pool, "_store_kv_layer", beside)


@pytest.mark.parametrize("broken", [_no_translation, _write_beside])
@pytest.mark.parametrize("name", ["whole_window", "trtllm_mha"])
def test_a_broken_engine_is_seen(
    name: str, judge: Judge, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, broken: Broken
) -> None:
    backend = request.getfixturevalue(name)
    broken(monkeypatch)
    for mode in ("decode", "extend"):
        assert Outcome.FAILED in {layer.outcome for layer in judge(backend, case(mode)).layers}, mode


def test_a_layer_that_is_declined_refuses_and_the_others_run(triton: Backend) -> None:
    asked = case("extend", q_dtype="bfloat16", kv_dtype="bfloat16")
    batch = assemble(asked, place(asked), make_logical(asked), torch.device("cpu"))
    prepared = triton.prepare(batch)
    with pytest.raises(UnsupportedError, match="layer 0: Triton's interpreter multiplies bfloat16 wrongly"):
        prepared.run(0, torch.empty_like(batch.layers[0].q), None)


@pytest.mark.parametrize("kind", ["triton", "trtllm_mha"])
def test_sglang_writes_the_new_tokens_itself_and_the_batch_stays_as_it_is(
    kind: str, request: pytest.FixtureRequest
) -> None:
    backend = request.getfixturevalue(kind)
    asked = case("extend")
    batch = assemble(asked, place(asked), make_logical(asked), torch.device("cpu"))
    before = [whole.clone() for _, whole in batch.memory()]
    prepared = backend.prepare(batch)
    engine = prepared.engines[0]
    slots = engine.tokens.slots
    keys = engine.pool.get_key_buffer(0)
    assert bool(keys[slots].isnan().all())
    prepared.run(2, torch.empty_like(batch.layers[2].q), None)
    stored = batch.caches[0].k.flatten(0, 1)[slots]
    assert torch.equal(keys[slots], stored)
    assert all(torch.equal(whole, copy) for (_, whole), copy in zip(batch.memory(), before, strict=True))
