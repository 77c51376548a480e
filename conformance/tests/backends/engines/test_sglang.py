"""The adapters around sglang's backends, as far as they go without it: what they declare, and what they translate."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from dataclasses import replace
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from attnconf.backends.demands import unmet_promise
from attnconf.backends.engines.sglang.backend import make_triton
from attnconf.backends.engines.sglang.capability import (
    SM90_PROMISES,
    TRITON_PROMISES,
    TRTLLM_PROMISES,
    triton_numerics,
    triton_supports,
    trtllm_supports,
)
from attnconf.backends.engines.sglang.groups import grouped
from attnconf.backends.engines.sglang.observed import Observed
from attnconf.backends.engines.sglang.pools import new_tokens, slot_table, slots_in
from attnconf.backends.engines.sglang.prepared import how
from attnconf.backends.engines.sglang.trtllm import SglangTrtllmMha, make_trtllm_mha
from attnconf.backends.entries import GROUP
from attnconf.cases.case import Case, Layer, Paging
from attnconf.cases.drawing.profiles import profile_named
from attnconf.cases.inputs.assemble import assemble
from attnconf.cases.inputs.layout import place
from attnconf.cases.inputs.logical import make_logical
from attnconf.cases.models import load_model
from attnconf.cases.request import Request
from attnconf.errors import BackendUnavailableError
from attnconf.platforms import Platform
from attnconf.running.doctor import examine
from attnconf.running.session import Session
from conformance.tests.support.shapes import a_shape

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.backends.protocol import Promises
    from attnconf.cases.inputs.batch import Batch

    Factory = Callable[[Platform], object]

ROOT = Path(__file__).parents[4]
INSTALLED = {"sglang": "0.5.23", "triton": "3.9.0", "flashinfer-python": "0.7.2"}
HERE = Platform(packages=INSTALLED)
HOPPER = HERE.model_copy(update={"sm": (9, 0), "cuda": "13.0"})
BLACKWELL = HERE.model_copy(update={"sm": (10, 0), "cuda": "13.0"})
BFLOAT16 = {"q_dtype": "bfloat16", "kv_dtype": "bfloat16"}
FLOAT32 = {"q_dtype": "float32", "kv_dtype": "float32"}
FULL = Layer(kind="full", num_qo_heads=4, num_kv_heads=1, head_dim=32, sm_scale=0.2)
SLIDING = Layer(kind="sliding", window_left=5, num_qo_heads=4, num_kv_heads=2, head_dim=16, sm_scale=0.2)


shape = partial(
    a_shape, q_dtype="float16", kv_dtype="float16", num_qo_heads=8, num_kv_heads=1, kv_layout="NHD", windowed=True
)


def case(**changes: object) -> Case:
    fields = {
        "mode": "extend",
        "q_dtype": "float16",
        "kv_dtype": "float16",
        "layers": (FULL, SLIDING),
        "requests": (Request(prefix_len=9, new_tokens=3), Request(prefix_len=0, new_tokens=2)),
        "paging": Paging(page_size=4, hybrid=True, extra_columns=2, table_tail="invalid"),
    }
    return Case.model_validate({**fields, **changes})


def batch_of(asked: Case) -> Batch:
    return assemble(asked, place(asked), make_logical(asked), torch.device("cpu"))


@pytest.mark.parametrize(("name", "made"), [("sglang:triton", make_triton), ("sglang:trtllm_mha", make_trtllm_mha)])
def test_they_are_registered_as_a_third_partys_would_be(name: str, made: object) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    entry = EntryPoint(name, project["entry-points"][GROUP][name], GROUP)
    assert entry.load() is made


@pytest.mark.parametrize("make", [make_triton, make_trtllm_mha])
@pytest.mark.parametrize(
    ("packages", "sentence"),
    [
        (
            {},
            r"backend sglang:\w+ cannot run here: sglang is not installed; make engines installs it in an environment",
        ),
        ({"sglang": "0.5.22"}, r"sglang 0.5.22 is not among the releases that the adapter was tried with \(0.5.23\)"),
        ({"sglang": "0.6.0"}, r"sglang 0.6.0 is not among the releases"),
    ],
)
def test_without_a_tested_sglang_they_say_what_to_do(make: Factory, packages: dict[str, str], sentence: str) -> None:
    with pytest.raises(BackendUnavailableError, match=sentence):
        make(Platform(packages=packages))


def test_trtllm_mha_needs_flashinfer_whose_signatures_it_binds() -> None:
    with pytest.raises(BackendUnavailableError, match="sglang:trtllm_mha needs flashinfer-python"):
        make_trtllm_mha(Platform(packages={"sglang": "0.5.23"}))


def test_doctor_shows_the_sentence() -> None:
    session = Session(Platform(), profile_named("smoke"))
    findings = examine(session)
    found = {finding.name: finding for finding in findings.backends}
    assert found["sglang:triton"].status == "unavailable"
    assert "make engines" in found["sglang:triton"].detail


@pytest.mark.parametrize(
    ("changes", "platform", "reason"),
    [
        (BFLOAT16, HERE, "interpreter multiplies bfloat16 wrongly"),
        ({"kv_dtype": "float8_e4m3fn"}, HERE, "no product of float8_e4m3fn"),
        ({"kv_dtype": "float8_e4m3fn"}, HOPPER, "by quantising it"),
        (FLOAT32, HOPPER, "as TF32"),
        ({}, BLACKWELL, "tried on SM 9.0 and on machines without a GPU, not on SM 10.0"),
        ({}, Platform(), "sglang is not installed"),
        ({}, Platform(packages={**INSTALLED, "sglang": "0.5.24"}), "sglang 0.5.24 is not among"),
    ],
)
def test_what_triton_declines(changes: dict[str, object], platform: Platform, reason: str) -> None:
    assert triton_supports(shape(), HERE) is None
    assert triton_supports(shape(**FLOAT32), HERE) is None
    assert triton_supports(shape(), HOPPER) is None
    assert triton_supports(shape(**BFLOAT16), HOPPER) is None
    declined = triton_supports(shape(**changes), platform)
    assert declined is not None
    assert reason in declined.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kv_dtype": "float8_e4m3fn"}, "by quantising it"),
        ({"q_dtype": "float32", "kv_dtype": "float32"}, "takes float16, bfloat16 or float8_e4m3fn queries"),
        ({"soft_cap": True}, "has no logits soft cap"),
        ({"page_size": 128, "num_kv_heads": 8}, "page_size 128 for grouped heads only"),
        ({"page_size": 8}, "page_size 16, 32, 64"),
        ({"head_dim": 96}, "head_dim 64, 128, 256 or 512"),
    ],
)
def test_what_trtllm_mha_declines(changes: dict[str, object], reason: str) -> None:
    assert trtllm_supports(shape(), HERE) is None
    assert trtllm_supports(shape(page_size=128), HERE) is None
    declined = trtllm_supports(shape(**changes), HERE)
    assert declined is not None
    assert reason in declined.reason


@pytest.mark.parametrize(
    ("changes", "platform", "reason"),
    [
        ({"kv_dtype": "float8_e4m3fn"}, HOPPER, "by quantising it"),
        ({"soft_cap": True}, HOPPER, "hands no logits soft cap to FlashInfer"),
        ({"soft_cap": True, "mode": "extend"}, HOPPER, "hands no logits soft cap to FlashInfer"),
        ({"page_size": 8}, HOPPER, "XQA takes page_size 16, 32, 64"),
        ({"head_dim": 72, "mode": "extend"}, HOPPER, "FMHA v2 takes head_dim"),
        ({}, BLACKWELL, "not on SM 10.0"),
        ({}, HOPPER.model_copy(update={"packages": {**INSTALLED, "flashinfer-python": "0.6.13"}}), "this is 0.6.13"),
        ({}, HOPPER.model_copy(update={"cuda": "12.2"}), "CUDA 12.2 is older than 12.3"),
    ],
)
def test_what_trtllm_mha_declines_on_a_gpu(changes: dict[str, object], platform: Platform, reason: str) -> None:
    """There it is FlashInfer's XQA and FMHA v2, over sglang's own pool: the batch's storage and layout are none."""
    assert trtllm_supports(shape(**BFLOAT16), HOPPER) is None
    assert trtllm_supports(shape(page_size=128, num_kv_heads=8), HOPPER) is None
    assert trtllm_supports(shape(storage="padded", kv_layout="HND"), HOPPER) is None
    declined = trtllm_supports(shape(**changes), platform)
    assert declined is not None
    assert reason in declined.reason


def test_trtllm_mha_is_evidence_of_kernels_where_these_run_and_needs_theirs_built() -> None:
    simulated = HOPPER.model_copy(update={"simulated": True})
    there, here = make_trtllm_mha(simulated), SglangTrtllmMha(HERE)
    assert (there.name, there.evidence) == ("sglang:trtllm_mha", "kernel")
    assert (here.name, here.evidence) == ("sglang:trtllm_mha", "contract")
    assert (there.promises, here.promises) == (SM90_PROMISES, TRTLLM_PROMISES)
    asked = [shape(**BFLOAT16, mode=mode, kv_layout="HND") for mode in ("decode", "extend")]
    assert [there.numerics(one).text for one in asked] == [
        "P bfloat16, row sum bfloat16, partials bfloat16",
        "P bfloat16",
    ]
    assert [here.numerics(one).text for one in asked] == ["float32", "float32"]
    prefill, decode = sorted(build.name for build in there.builds(asked))
    assert prefill == "trtllm_fmha_v2_q_paged_kv_nhd_bf16_bf16"
    assert decode.startswith("xqa_input_bf16_kv_cache_bf16_output_bf16_page_size_16_head_dim_256_head_group_ratio_8_")
    assert there.builds([shape(soft_cap=True)]) == ()
    assert here.builds(asked) == ()


def test_a_call_of_flashinfer_is_noted_by_its_kernel_and_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    def load(module: str, name: str) -> Callable[..., object]:
        return lambda *args, **kwargs: made.append((module, name, args, kwargs)) or len(made)

    monkeypatch.setattr("attnconf.backends.flashinfer.library.load", load)
    observed = Observed()
    assert observed.decode.trtllm_batch_decode_with_kv_cache(query=1) == 1
    assert observed.prefill.trtllm_fmha_v2_prefill(2, sinks=None) == 2
    assert observed.decode.trtllm_batch_decode_with_kv_cache(query=3) == 3
    assert observed.called == ["xqa", "fmha_v2"]
    assert made[1] == ("flashinfer.prefill", "trtllm_fmha_v2_prefill", (2,), {"sinks": None})


@pytest.mark.parametrize(
    ("library", "said"),
    [
        (SimpleNamespace(compiled=False, whole=True), "interpreted"),
        (SimpleNamespace(compiled=True, whole=True, can_use_store_cache=lambda _: True), "compiled"),
        (
            SimpleNamespace(compiled=True, whole=False, can_use_store_cache=lambda size: size != 1 * 32 * 2),
            "compiled, KV written by torch, without sgl_kernel",
        ),
    ],
)
def test_a_name_says_how_it_ran_and_what_was_not_there(library: Any, said: str) -> None:  # noqa: ANN401 - a Library
    assert how(library, batch_of(case()), 0) == said


def test_asking_what_they_support_imports_no_sglang() -> None:
    code = (
        "import sys; from attnconf.backends.registry import Registry; from attnconf.platforms import Platform;"
        "from attnconf.backends.engines.sglang.backend import make_triton;"
        "from attnconf.backends.engines.sglang.trtllm import make_trtllm_mha;"
        f"p = Platform(packages={INSTALLED!r}, simulated=True); Registry(); make_triton(p); make_trtllm_mha(p);"
        "assert not {m for m in sys.modules if m.split('.')[0] in ('sglang', 'flashinfer')}, 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 - this interpreter, this code


@pytest.mark.parametrize("promises", [TRITON_PROMISES, TRTLLM_PROMISES, SM90_PROMISES])
def test_a_window_of_the_query_alone_means_none_to_sglang(promises: Promises) -> None:
    own = SLIDING.model_copy(update={"window_left": 0})
    declined = unmet_promise(case(layers=(FULL, own)), 1, promises)
    assert declined is not None
    assert declined.reason == "takes a window_left from 1 on, not 0"
    assert unmet_promise(case(layers=(FULL, own)), 0, promises) is None
    assert unmet_promise(case(), 1, promises) is None


def test_the_decode_kernel_of_ungrouped_heads_rounds_products_and_the_others_round_p() -> None:
    alone = triton_numerics(shape(num_kv_heads=8))
    assert (alone.query, alone.p) == ("float16", "float32")
    assert triton_numerics(shape(num_kv_heads=8, q_dtype="float32", kv_dtype="float32")).query is None
    assert triton_numerics(shape(num_kv_heads=8, mode="extend")).p == "float16"
    assert triton_numerics(shape()).p == "float16"


def test_a_page_is_its_slots_and_an_id_outside_the_pool_is_the_null_page() -> None:
    batch = batch_of(case())
    table = slot_table(batch)
    size = batch.page_size
    for row, length in enumerate(batch.kv_lens):
        pages = batch.block_tables[row].long()
        expected = [int(pages[t // size]) * size + t % size for t in range(length)]
        assert table[row, :length].tolist() == expected
    behind = table[1, size:]
    assert behind.tolist() == list(range(size)) * (len(behind) // size)
    assert int(table.max()) < batch.full_to_swa.shape[0]


def test_new_tokens_are_the_last_ones_and_live_where_the_translation_says() -> None:
    batch = batch_of(case())
    table = slot_table(batch)
    found = new_tokens(batch, table)
    assert found.positions.tolist() == [9, 10, 11, 0, 1]
    assert found.slots.tolist() == [*table[0, 9:12].tolist(), *table[1, 0:2].tolist()]
    assert slots_in(batch, 0, found.slots).tolist() == found.slots.tolist()
    assert slots_in(batch, 1, found.slots).tolist() == batch.full_to_swa[found.slots].tolist()


def test_a_padding_row_writes_to_slot_0() -> None:
    asked = case(mode="decode", requests=(Request(prefix_len=9),), padding_rows=1, padding_kv_len=1)
    batch = batch_of(asked)
    assert new_tokens(batch, slot_table(batch)).slots[-1] == 0


@pytest.mark.parametrize("model", ["gemma4-e2b", "gemma4-31b", "gpt-oss-20b"])
def test_a_models_own_layers_make_one_model_in_a_hybrid_pool(model: str) -> None:
    layers = tuple(Layer.model_validate(one.model_dump()) for one in load_model(model).shard(4).case_layers())
    asked = case(layers=layers, requests=(Request(prefix_len=2),), mode="decode")
    groups = grouped(batch_of(asked), range(len(layers)))
    assert [group.layers for group in groups] == [list(range(len(layers)))]
    assert groups[0].window_left == max(layer.window_left for layer in layers)
    plain = asked.model_copy(update={"paging": Paging(page_size=4)})
    shapes = {(layer.num_kv_heads, layer.head_dim) for layer in layers}
    assert len(grouped(batch_of(plain), range(len(layers)))) == len(shapes)


def test_two_windows_and_a_redirected_layer_share_a_pool_but_no_model() -> None:
    other = SLIDING.model_copy(update={"window_left": 2, "kv_owner": 1})
    batch = batch_of(case(layers=(FULL, SLIDING, other)))
    groups = grouped(batch, range(3))
    assert [(group.layers, group.caches, group.window_left) for group in groups] == [([0, 1], [0, 1], 5), ([2], [1], 2)]
    assert [group.layers for group in grouped(batch, [2])] == [[2]]
    assert replace(groups[1]).takes(FULL, "full")
