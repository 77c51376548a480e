"""PyTorch's own attention as a peer: right on every case, on this machine's CPU kernel, and honest about its limits."""

from __future__ import annotations

import pytest
import torch

from attnconf.backends.torch_sdpa import make
from attnconf.cases.case import Case, Layer, Paging, Poison
from attnconf.cases.drawing.choices import Choices
from attnconf.cases.drawing.draws import Draws
from attnconf.cases.drawing.space import DTYPES, MODES, Space
from attnconf.cases.drawing.strategies import free_layers
from attnconf.cases.dtypes import FP8, Dtypes
from attnconf.cases.inputs.assemble import assemble
from attnconf.cases.inputs.layout import place
from attnconf.cases.inputs.logical import make_logical
from attnconf.cases.request import Request
from attnconf.cases.shape import kernel_shape
from attnconf.errors import UnsupportedError
from attnconf.judging.checks.catalogue import all_checks
from attnconf.judging.result import CaseResult, Outcome
from attnconf.judging.run import run_case
from attnconf.platforms import Platform
from attnconf.running.explore import explore

CPU = Platform()
HOPPER = Platform(sm=(9, 0), cuda="13.0")
FULL = Layer(kind="full", num_qo_heads=6, num_kv_heads=2, head_dim=64, sm_scale=0.125)
SLIDING = Layer(kind="sliding", window_left=5, num_qo_heads=2, num_kv_heads=2, head_dim=32, sm_scale=0.2)


def case(**changes: object) -> Case:
    fields: dict[str, object] = {
        "mode": "extend",
        "layers": (FULL, SLIDING),
        "requests": (Request(prefix_len=20, new_tokens=3), Request(prefix_len=0, new_tokens=17), Request(new_tokens=0)),
        "paging": Paging(page_size=8, extra_columns=2, table_tail="invalid", hybrid=True, reclaimed=True),
        "poison": Poison(k="nan", v="nan"),
        "seed": 5,
    }
    return Case.model_validate(fields | changes)


def ask(given: Case) -> CaseResult:
    return run_case(given, make(CPU), CPU, torch.device("cpu"), choose=all_checks)


@pytest.mark.parametrize("dtypes", DTYPES, ids=lambda dtypes: dtypes.text)
def test_every_clause_holds_in_every_dtype(dtypes: Dtypes) -> None:
    layers: tuple[Layer, ...] = (FULL, SLIDING)
    if dtypes.kv == FP8:
        scales = {"k_scale": 0.4, "v_scale": 1.5, "q_scale": 0.2, "out_scale": 0.05}
        layers = tuple(layer.model_copy(update=scales) for layer in layers)
    result = ask(case(q_dtype=dtypes.q, kv_dtype=dtypes.kv, out_dtype=dtypes.stated_out, layers=layers))
    assert [layer.outcome for layer in result.layers] == [Outcome.PASSED, Outcome.PASSED], result
    assert result.layers[0].kernel == "sdpa-flash_attention"


@pytest.mark.parametrize("layout", ["NHD", "HND"])
@pytest.mark.parametrize("storage", ["apart", "interleaved", "padded", "sliced"])
def test_every_layout_and_storage(layout: str, storage: str) -> None:
    paging = Paging.model_validate({"page_size": 3, "layout": layout, "storage": storage})
    assert not ask(case(paging=paging)).is_failure


def test_a_redirected_layer_reads_its_owner_with_the_owners_scales() -> None:
    owner = FULL.model_copy(update={"k_scale": 0.5, "v_scale": 0.4})
    redirected = FULL.model_copy(update={"kv_owner": 0, "sm_scale": 0.3, "k_scale": 2.0, "v_scale": 1.5})
    result = ask(case(layers=(owner, redirected), kv_dtype="float8_e4m3fn", paging=Paging()))
    assert [layer.outcome for layer in result.layers] == [Outcome.PASSED, Outcome.PASSED], result


def test_padding_rows_without_keys_are_zeros() -> None:
    result = ask(case(mode="decode", requests=(Request(prefix_len=9),), padding_rows=2))
    assert not result.is_failure


def test_random_cases_raise_no_alarm() -> None:
    def plain(choices: Choices) -> tuple[Layer, ...]:
        without = {"logits_soft_cap": None, "sinks": False}
        return tuple(layer.model_copy(update=without) for layer in free_layers()(choices))

    found = explore([Draws(Space(name="free", layers=plain), 3, 40)], ask)
    assert found.failure is None
    assert all(layer.outcome is Outcome.PASSED for result in found.results for layer in result.layers)


@pytest.mark.parametrize("mode", MODES)
def test_soft_cap_and_sinks_are_unsupported_and_refused(mode: str) -> None:
    tokens = {"decode": (1, 1), "mixed": (1, 2), "extend": (2, 3), "verify": (2, 2)}[mode]
    requests = tuple(Request(prefix_len=4, new_tokens=count) for count in tokens)
    layers = (
        FULL.model_copy(update={"logits_soft_cap": 30.0}),
        FULL.model_copy(update={"sinks": True}),
        FULL,
    )
    given = case(mode=mode, layers=layers, requests=requests, paging=Paging())
    result = ask(given)
    assert [layer.outcome for layer in result.layers] == [Outcome.UNSUPPORTED, Outcome.UNSUPPORTED, Outcome.PASSED]
    assert ["soft cap" in result.layers[0].reason, "sinks" in result.layers[1].reason] == [True, True]
    batch = assemble(given, place(given), make_logical(given), torch.device("cpu"))
    prepared = make(CPU).prepare(batch)
    out = torch.empty_like(batch.layers[0].q)
    for layer, reason in ((0, "no logits soft cap"), (1, "no sinks")):
        with pytest.raises(UnsupportedError, match=reason):
            prepared.run(layer, out, None)
    with pytest.raises(UnsupportedError, match="no LSE"):
        prepared.run(2, out, torch.empty(out.shape[:2]))


def test_numerics_are_those_of_the_pinned_kernel() -> None:
    half = case(q_dtype="float16", kv_dtype="float16")
    quantised = case(kv_dtype="float8_e4m3fn")
    assert make(CPU).numerics(kernel_shape(half, 0)).p == "float16"
    assert make(CPU).numerics(kernel_shape(half, 0)).partials is None
    assert make(CPU).numerics(kernel_shape(quantised, 0)).partials == "bfloat16"
    assert make(HOPPER).numerics(kernel_shape(half, 0)).p == "float32"
