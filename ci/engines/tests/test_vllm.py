"""vLLM 0.33.0's own Triton attention backend: what it answers, which of its kernels ran, and what would be seen.

``make engines`` installs the engine and runs this; it is no part of ``make test``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest
import torch

from attnconf.backends.engines.vllm.backend import VllmTriton, make_triton
from attnconf.backends.engines.vllm.engine import as_vllm
from attnconf.cases.case import Case, Layer, Paging
from attnconf.cases.drawing.families import applies
from attnconf.cases.dtypes import Dtypes
from attnconf.cases.inputs.assemble import assemble
from attnconf.cases.inputs.layout import place
from attnconf.cases.inputs.logical import make_logical
from attnconf.cases.request import Request
from attnconf.judging.checks.catalogue import CHECKS
from attnconf.judging.result import Outcome
from attnconf.judging.run import run_case
from attnconf.platforms import detect
from ci.engines.fitting import fitting_cases

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.cases.drawing.families import Family
    from attnconf.judging.result import CaseResult

    Broken = Callable[[pytest.MonkeyPatch], None]

KERNELS = "vllm.v1.attention.ops.triton_unified_attention"
IMPL = "vllm.v1.attention.backends.triton_attn"
GEMMA4 = ("gemma4-e2b", "gemma4-e4b", "gemma4-12b", "gemma4-26b-a4b", "gemma4-31b")
REQUESTS = {
    "decode": (Request(prefix_len=45), Request(prefix_len=3)),
    "extend": (Request(prefix_len=36, new_tokens=9), Request(new_tokens=4)),
    "mixed": (Request(prefix_len=36, new_tokens=9), Request(prefix_len=40)),
    "verify": (Request(prefix_len=36, new_tokens=3), Request(prefix_len=20, new_tokens=3)),
}
DTYPES = (Dtypes("float16", "float16", "float16"), Dtypes("float32", "float32", "float32"))


@pytest.fixture(scope="session")
def vllm() -> VllmTriton:
    return make_triton(detect())


def case(mode: str, **changes: object) -> Case:
    """A model with full and sliding layers, one of each redirected, in a hybrid pool; a window that masks keys."""
    full = Layer(kind="full", num_qo_heads=3, num_kv_heads=1, head_dim=64, sm_scale=0.2)
    sliding = Layer(kind="sliding", window_left=20, num_qo_heads=4, num_kv_heads=2, head_dim=32, sm_scale=0.2)
    fields: dict[str, Any] = {
        "mode": mode,
        "q_dtype": "float16",
        "kv_dtype": "float16",
        "layers": (
            full,
            sliding,
            full.model_copy(update={"kv_owner": 0}),
            sliding.model_copy(update={"kv_owner": 1}),
        ),
        "requests": REQUESTS[mode],
        "paging": Paging(page_size=16, storage="sliced", hybrid=True, extra_columns=1, table_tail="invalid"),
    }
    return Case.model_validate({**fields, **changes})


def judge(backend: VllmTriton, asked: Case) -> CaseResult:
    return run_case(asked, backend, backend.platform, torch.device("cpu"), choose=lambda _: CHECKS)


@pytest.mark.parametrize(
    ("mode", "dtype"), [("decode", "float16"), ("extend", "float16"), ("mixed", "float32"), ("verify", "float16")]
)
def test_it_keeps_the_contract_in_every_check(vllm: VllmTriton, mode: str, dtype: str) -> None:
    result = judge(vllm, case(mode, q_dtype=dtype, kv_dtype=dtype))
    assert [(layer.outcome, layer.reason, layer.failures) for layer in result.layers] == [(Outcome.PASSED, "", ())] * 4
    assert {layer.kernel for layer in result.layers} == {"TritonAttentionImpl.forward[interpreted]"}
    assert "window" in result.layers[1].effective
    assert "shared_kv" in result.layers[2].effective
    assert {"shared_kv", "window"} <= set(result.layers[3].effective)


def test_it_keeps_the_contract_with_soft_cap_sinks_and_odd_groups_in_either_layout(vllm: VllmTriton) -> None:
    odd = Layer(
        kind="sliding",
        window_left=0,
        num_qo_heads=5,
        num_kv_heads=1,
        head_dim=96,
        sm_scale=0.2,
        logits_soft_cap=20.0,
        sinks=True,
    )
    wide = Layer(kind="full", num_qo_heads=17, num_kv_heads=1, head_dim=32, sm_scale=0.2, sinks=True)
    for layout in ("NHD", "HND"):
        asked = case("mixed", layers=(odd, wide), paging=Paging(page_size=32, layout=layout, storage="sliced"))
        assert {layer.outcome for layer in judge(vllm, asked).layers} == {Outcome.PASSED}


def _with_images_within(asked: Case) -> Case:
    """Return ``asked`` without images that end behind their chunk: those are the finding vllm-triton-image-cut."""
    requests = [
        request.model_copy(update={"spans": tuple(span for span in request.spans if span[1] <= request.kv_len)})
        for request in asked.requests
    ]
    return asked.model_copy(update={"requests": tuple(requests)})


@pytest.mark.parametrize("model", GEMMA4)
@pytest.mark.parametrize("family", ["decode", "extend", "shared_kv"])
def test_it_keeps_the_contract_on_gemma_4(vllm: VllmTriton, family: Family, model: str) -> None:
    if not applies(family, model):
        return
    drawn = fitting_cases(family, model, storage="sliced", dtypes=DTYPES, max_kv_len=200, examples=1)
    drawn = [_with_images_within(asked) for asked in drawn]
    results = [run_case(asked, vllm, vllm.platform, torch.device("cpu")) for asked in drawn]
    assert [result.failures for result in results if result.is_failure] == []
    assert Outcome.PASSED in {layer.outcome for result in results for layer in result.layers}


class _Spy:
    """A kernel that notes that it was launched."""

    def __init__(self, kernel: Any, launched: list[str], name: str) -> None:  # noqa: ANN401 - a Triton kernel
        self.kernel, self.launched, self.name = kernel, launched, name

    def __getitem__(self, grid: object) -> object:
        self.launched.append(self.name)
        return self.kernel[grid]


@pytest.mark.parametrize(
    ("asked", "split"),
    [
        (case("decode"), True),
        (case("verify"), True),
        (case("extend"), False),  # 9 query tokens, and vLLM splits the keys of 8 at most
    ],
)
def test_keys_are_split_where_vllm_splits_them(
    vllm: VllmTriton, monkeypatch: pytest.MonkeyPatch, asked: Case, *, split: bool
) -> None:
    launched: list[str] = []
    module = importlib.import_module(KERNELS)
    for name in ("kernel_unified_attention", "reduce_segments"):
        monkeypatch.setattr(module, name, _Spy(vars(module)[name], launched, name))
    run_case(asked, vllm, vllm.platform, torch.device("cpu"), choose=lambda _: CHECKS[:1])
    assert "kernel_unified_attention" in launched
    assert ("reduce_segments" in launched) is split


@pytest.mark.parametrize("layout", ["NHD", "HND"])
def test_vllms_own_writer_fills_the_slots_of_new_tokens(vllm: VllmTriton, layout: str) -> None:
    asked = case("extend", paging=Paging(page_size=16, layout=layout, storage="sliced", placement="random"))
    batch = assemble(asked, place(asked), make_logical(asked), torch.device("cpu"))
    prepared = vllm.prepare(batch)
    engine = prepared.engine  # type: ignore[attr-defined]
    before = as_vllm(batch.caches[0], layout).clone()
    k, v = engine._new_kv(0)
    slots = engine._slots["model.layers.0.self_attn.attn"]
    layer = engine._layers[0]
    layer.kv_cache.transpose(1, 2)[slots // 16, slots % 16] = torch.nan
    assert not torch.equal(as_vllm(batch.caches[0], layout), before)
    with engine._vllm.running(engine._config):
        layer.impl.do_kv_cache_update(layer, k, v, layer.kv_cache, slots)
    assert torch.equal(as_vllm(batch.caches[0], layout), before)


def _one_key_fewer(patch: pytest.MonkeyPatch) -> None:
    impl = vars(importlib.import_module(IMPL))["TritonAttentionImpl"]
    made = impl.__init__

    def narrow(self: Any, *args: object, **kwargs: object) -> None:  # noqa: ANN401 - vLLM's class
        made(self, *args, **kwargs)
        left, right = self.sliding_window
        self.sliding_window = (left - 1 if left > 0 else left, right)

    patch.setattr(impl, "__init__", narrow)


def _shared_layers_write(patch: pytest.MonkeyPatch) -> None:
    layer = importlib.import_module("vllm.model_executor.layers.attention").Attention
    forward = layer.forward

    def unshared(self: Any, *args: object) -> torch.Tensor:  # noqa: ANN401 - vLLM's class
        self.kv_sharing_target_layer_name = None
        out: torch.Tensor = forward(self, *args)
        return out

    patch.setattr(layer, "forward", unshared)


def _next_slot(patch: pytest.MonkeyPatch) -> None:
    impl = vars(importlib.import_module(IMPL))["TritonAttentionImpl"]
    update = impl.do_kv_cache_update
    patch.setattr(
        impl, "do_kv_cache_update", lambda self, layer, k, v, kv, slots: update(self, layer, k, v, kv, slots ^ 1)
    )


def _newest_key_unseen(patch: pytest.MonkeyPatch) -> None:
    builder = vars(importlib.import_module(IMPL))["TritonAttentionMetadataBuilder"]
    build = builder.build

    def shorter(self: Any, prefix: int, common: Any) -> Any:  # noqa: ANN401 - vLLM's classes
        common.seq_lens = common.seq_lens - 1
        return build(self, prefix, common)

    patch.setattr(builder, "build", shorter)


@pytest.mark.parametrize(
    ("broken", "mode", "layer", "clauses"),
    [
        (_one_key_fewer, "decode", 1, {2}),
        (_shared_layers_write, "extend", 2, {1, 9, 10}),
        (_next_slot, "extend", 0, {1, 5, 10}),
        (_newest_key_unseen, "decode", 0, {1}),
    ],
)
def test_a_mistake_of_vllm_would_be_seen(  # noqa: PLR0913 - fixtures and a mistake
    vllm: VllmTriton, monkeypatch: pytest.MonkeyPatch, broken: Broken, mode: str, layer: int, clauses: set[int]
) -> None:
    broken(monkeypatch)
    found = judge(vllm, case(mode)).layers[layer]
    assert found.outcome is Outcome.FAILED
    assert {failure.clause for failure in found.failures} & clauses
