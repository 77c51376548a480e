"""The adapter around vLLM's Triton backend, as far as it goes without it: what it declares, and what it translates."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch

from attnconf.backends.demands import unmet_promise
from attnconf.backends.engines.vllm.backend import make_triton
from attnconf.backends.engines.vllm.capability import PROMISES, numerics, supports
from attnconf.backends.engines.vllm.engine import as_vllm
from attnconf.backends.registry import Registry
from attnconf.cases.case import Case, KVLayout, Layer, Paging, Storage
from attnconf.cases.inputs.assemble import assemble
from attnconf.cases.inputs.layout import place
from attnconf.cases.inputs.logical import make_logical
from attnconf.cases.request import Request
from attnconf.errors import BackendUnavailableError
from attnconf.platforms import Platform
from conformance.tests.support.shapes import a_shape

if TYPE_CHECKING:
    from attnconf.cases.inputs.batch import Batch

HERE = Platform(packages={"vllm": "0.33.0", "triton": "3.9.0"})
HOPPER = HERE.model_copy(update={"sm": (9, 0), "cuda": "13.0"})
BLACKWELL = HERE.model_copy(update={"sm": (10, 0), "cuda": "13.0"})
BFLOAT16 = {"q_dtype": "bfloat16", "kv_dtype": "bfloat16"}
FLOAT32 = {"q_dtype": "float32", "kv_dtype": "float32"}
LAYER = Layer(kind="full", num_qo_heads=4, num_kv_heads=2, head_dim=32, sm_scale=0.2)


shape = partial(
    a_shape,
    q_dtype="float16",
    kv_dtype="float16",
    num_qo_heads=8,
    num_kv_heads=1,
    kv_layout="NHD",
    storage="sliced",
    windowed=True,
    soft_cap=True,
    sinks=True,
)


def batch_of(storage: Storage, layout: KVLayout) -> Batch:
    case = Case(
        mode="extend",
        q_dtype="float16",
        kv_dtype="float16",
        layers=(LAYER,),
        requests=(Request(prefix_len=20, new_tokens=3),),
        paging=Paging(storage=storage, layout=layout),
    )
    return assemble(case, place(case), make_logical(case), torch.device("cpu"))


def test_it_is_found_through_the_entry_points() -> None:
    assert "vllm:triton" in Registry().names


@pytest.mark.parametrize(
    ("packages", "sentence"),
    [
        ({}, "backend vllm:triton cannot run here: vllm is not installed; make engines installs it in an environment"),
        ({"vllm": "0.32.1"}, r"vllm 0.32.1 is not among the releases that the adapter was tried with \(0.33.0\)"),
        ({"vllm": "0.34.0"}, "vllm 0.34.0 is not among the releases"),
    ],
)
def test_without_a_tested_vllm_it_says_what_to_do(packages: dict[str, str], sentence: str) -> None:
    with pytest.raises(BackendUnavailableError, match=sentence):
        make_triton(Platform(packages=packages))


@pytest.mark.parametrize(
    ("changes", "platform"),
    [
        ({}, HERE),
        (FLOAT32, HERE),
        ({"kv_layout": "HND", "page_size": 48}, HERE),
        ({"head_dim": 96, "num_qo_heads": 7, "num_kv_heads": 1}, HERE),
        ({"mode": "verify", "max_q_len": 8}, HERE),
        ({}, HOPPER),
        (BFLOAT16, HOPPER),
        ({"kv_layout": "HND", "page_size": 48, "mode": "verify", "max_q_len": 8}, HOPPER),
    ],
)
def test_what_it_runs(changes: dict[str, Any], platform: Platform) -> None:
    assert supports(shape(**changes), platform) is None


@pytest.mark.parametrize(
    ("changes", "platform", "reason"),
    [
        ({}, Platform(), "vllm is not installed"),
        ({}, Platform(sm=(9, 0)), "vllm is not installed"),
        ({}, BLACKWELL, "tried on SM 9.0 and on machines without a GPU, not on SM 10.0"),
        (BFLOAT16, HERE, "multiplies bfloat16 wrongly"),
        (FLOAT32, HOPPER, "as TF32"),
        ({"kv_dtype": "float8_e4m3fn"}, HOPPER, "by quantising it"),
        ({"storage": "apart"}, HOPPER, "storage apart does not"),
        ({"kv_dtype": "float8_e4m3fn"}, HERE, "on a GPU only"),
        ({"kv_dtype": "float32"}, HERE, "float16 KV beside float16 queries, not float32"),
        ({"storage": "apart"}, HERE, "side by side in one row; storage apart does not"),
        ({"storage": "interleaved"}, HERE, "storage interleaved"),
        ({"storage": "padded"}, HERE, "storage padded"),
        ({"page_size": 8}, HERE, "page_size 8 is no multiple of 16"),
        ({"head_dim": 16}, HERE, "head_dim 16 is below 32"),
    ],
)
def test_what_it_declines_and_why(changes: dict[str, Any], platform: Platform, reason: str) -> None:
    declined = supports(shape(**changes), platform)
    assert declined is not None
    assert reason in declined.reason


def test_a_declaration_imports_no_vllm() -> None:
    code = (
        "import sys, importlib.metadata as m; from attnconf.backends.registry import Registry;"
        "from attnconf.platforms import Platform;"
        "b = Registry().make('vllm:triton', Platform(packages={'vllm': '0.33.0'}, simulated=True));"
        "assert 'vllm' not in sys.modules and 'triton' not in sys.modules; print(b.name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    assert (done.stdout, done.returncode) == ("vllm:triton\n", 0), done.stderr


@pytest.mark.parametrize("layout", ["NHD", "HND"])
def test_a_sliced_cache_is_vllms_own_without_a_copy(layout: KVLayout) -> None:
    batch = batch_of("sliced", layout)
    (cache,) = batch.caches
    logical = as_vllm(cache, layout)
    pages = cache.k.shape[0]
    assert logical.shape == (pages, 2, 16, 64)
    assert logical.untyped_storage().data_ptr() == cache.k.untyped_storage().data_ptr()
    by_head = (lambda view: view) if layout == "HND" else (lambda view: view.transpose(1, 2))
    assert torch.equal(logical[..., :32], by_head(cache.k))
    assert torch.equal(logical[..., 32:], by_head(cache.v))


@pytest.mark.parametrize("storage", ["apart", "interleaved", "padded"])
def test_other_memory_is_refused(storage: Storage) -> None:
    batch = batch_of(storage, "HND")
    with pytest.raises(ValueError, match="do not lie side by side"):
        as_vllm(batch.caches[0], "HND")


def test_p_is_held_in_the_dtype_of_the_values() -> None:
    assert numerics(shape()).text == "P float16"
    assert numerics(shape(**BFLOAT16)).text == "P bfloat16"
    assert numerics(shape(**FLOAT32)).text == "float32"


def test_a_row_over_no_key_is_not_asked() -> None:
    case = Case(mode="decode", layers=(LAYER,), requests=(Request(prefix_len=3),), padding_rows=1, padding_kv_len=0)
    declined = unmet_promise(case, 0, PROMISES)
    assert declined is not None
    assert "kv_len 0" in declined.reason
