"""Values that are narrower or wider than keys: right in every storage and layout, in memory of their own strides."""

from __future__ import annotations

from itertools import product
from typing import Any, get_args

import pytest
import torch

from attnconf.backends.engines.sglang.capability import triton_supports
from attnconf.backends.engines.vllm.capability import supports as vllm_supports
from attnconf.backends.protocol import Unsupported
from attnconf.cases.case import Case, Layer, Paging, QuerySide, Storage
from attnconf.cases.drawing.profiles import profile_named
from attnconf.cases.inputs.target import make_target
from attnconf.cases.request import Request
from attnconf.judging.posed import PosedCase
from attnconf.judging.result import Outcome
from attnconf.judging.run import run_case
from attnconf.platforms import Platform, detect
from attnconf.running.session import Session
from conformance.tests.support.shapes import a_shape

STORAGES: tuple[Storage, ...] = get_args(Storage)
CPU = torch.device("cpu")
SESSION = Session(platform=detect(), profile=profile_named("smoke"))
MIMO = Layer(
    kind="sliding", window_left=30, num_qo_heads=8, num_kv_heads=2, head_dim=192, head_dim_v=128, sm_scale=0.07
)
ODD = Layer(kind="full", num_qo_heads=6, num_kv_heads=2, head_dim=80, head_dim_v=36, sm_scale=0.1)
WIDE = Layer(kind="full", num_qo_heads=3, num_kv_heads=1, head_dim=64, head_dim_v=128, sm_scale=0.125)


def a_case(**changes: Any) -> Case:  # noqa: ANN401 - any field
    fields: dict[str, Any] = {
        "mode": "extend",
        "layers": (MIMO, ODD, WIDE, MIMO.model_copy(update={"kv_owner": 0, "sm_scale": 0.1})),
        "requests": (Request(prefix_len=40, new_tokens=5), Request(new_tokens=9), Request(prefix_len=33, new_tokens=1)),
        "paging": Paging(page_size=8, hybrid=True),
        "query": QuerySide(storage="packed", slack_rows=2),
    }
    return Case.model_validate(fields | changes)


@pytest.mark.parametrize(
    ("backend", "storage"),
    [*product(("reference", "torch_sdpa"), STORAGES), ("triton", "interleaved"), ("triton", "sliced")],
)
def test_every_storage_is_answered_right(backend: str, storage: Storage) -> None:
    for layout, dtypes in (("NHD", {}), ("HND", {"kv_dtype": "float8_e4m3fn"})):
        paging = Paging(page_size=8, hybrid=True, storage=storage, layout=layout)  # type: ignore[arg-type]
        result = run_case(a_case(paging=paging, **dtypes), SESSION.backend(backend), SESSION.platform, CPU)
        assert [one.outcome for one in result.layers] == [Outcome.PASSED] * 4, (layout, result)


@pytest.mark.parametrize("backend", ["reference", "torch_sdpa", "triton"])
def test_split_keys_of_a_decode_are_merged_over_the_width_of_values(backend: str) -> None:
    requests = (Request(prefix_len=1700), Request(prefix_len=3))
    case = a_case(mode="decode", layers=(ODD, WIDE), requests=requests, paging=Paging(page_size=64))
    result = run_case(case, SESSION.backend(backend), SESSION.platform, CPU)
    assert [one.outcome for one in result.layers] == [Outcome.PASSED] * 2, result


@pytest.mark.parametrize("storage", STORAGES)
def test_k_and_v_lie_in_memory_as_the_storage_says(storage: Storage) -> None:
    posed = PosedCase(a_case(layers=(MIMO,), paging=Paging(page_size=8, storage=storage)), CPU)
    (cache,) = posed.batch.caches
    assert cache.k.shape[1:] == (8, 2, 192)
    assert cache.v.shape[1:] == (8, 2, 128)
    assert (cache.k.stride() == cache.v.stride()) is (storage == "sliced")
    joint = cache.k.untyped_storage().data_ptr() == cache.v.untyped_storage().data_ptr()
    assert joint is (storage in {"interleaved", "sliced"})
    if joint:
        page = cache.k.stride(0)
        assert page == cache.v.stride(0) == 8 * 2 * (192 + 128)


def test_an_answer_is_as_wide_as_values() -> None:
    posed = PosedCase(a_case(), CPU)
    assert [make_target(posed.batch, index, lse=True).out.shape[2] for index in range(4)] == [128, 36, 128, 128]
    assert posed.batch.layers[0].q.shape[2] == 192
    packed = posed.batch.layers[0].q.stride(0)
    assert packed == 8 * 192 + 2 * 192 + 2 * 128


@pytest.mark.parametrize("supports", [triton_supports, vllm_supports])
def test_the_engines_adapters_decline_other_widths(supports: Any) -> None:  # noqa: ANN401 - a capability
    packages = {"sglang": "0.5.23", "vllm": "0.33.0", "triton": "3.9.0", "torch": "2.13.0"}
    said = supports(
        a_shape(q_dtype="float16", kv_dtype="float16", storage="sliced", head_dim_v=128), Platform(packages=packages)
    )
    assert isinstance(said, Unsupported)
    assert "values" in said.reason
