"""What the kernels can run, as a table of known facts: a version floor is not a capability."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from attnconf.backends.flashinfer.trtllm_mha import make
from attnconf.backends.flashinfer.trtllm_mha.capability import supports
from attnconf.backends.flashinfer.trtllm_mha.dispatch import family, generation
from attnconf.backends.protocol import Unsupported
from attnconf.platforms import Platform
from conformance.tests.support.shapes import a_shape

CPU = None
HOPPER = (9, 0)
B200 = (10, 0)
B300 = (10, 3)
RTX = (12, 0)


def platform(sm: tuple[int, int] | None, version: str = "0.7.2.post1", cuda: str | None = "13.0") -> Platform:
    return Platform(sm=sm, cuda=None if sm is None else cuda, packages={"flashinfer-python": version})


VERIFY = {"mode": "verify", "max_q_len": 4}
EXTEND = {"mode": "extend", "max_q_len": 40}
FP8 = {"kv_dtype": "float8_e4m3fn"}
FP8_QUERY = {"q_dtype": "float8_e4m3fn", **FP8}

SUPPORTED: dict[str, tuple[dict[str, Any], tuple[int, int] | None, str]] = {
    "Gemma 4 sliding decode": ({"windowed": True}, B200, "0.6.10.post1"),
    "Gemma 4 full decode": ({"head_dim": 512}, B200, "0.6.10.post1"),
    "Gemma 4 full decode, contract": ({"head_dim": 512}, CPU, "0.6.10.post1"),
    "Gemma 4 full extend": ({**EXTEND, "head_dim": 512}, B300, "0.6.10.post1"),
    "head_dim 512 at q_len 4": ({**VERIFY, "head_dim": 512}, B200, "0.6.13"),
    "head_dim 512 at q_len 5": ({"mode": "verify", "max_q_len": 5, "head_dim": 512, "num_kv_heads": 4}, B200, "0.6.14"),
    "head_dim 512 at q_len 5, small group": ({"mode": "verify", "max_q_len": 5, "head_dim": 512}, B200, "0.6.13"),
    "head_dim 512 at q_len 8": ({"mode": "verify", "max_q_len": 8, "head_dim": 512}, CPU, "0.7.2.post1"),
    "gpt-oss decode": ({"head_dim": 64, "sinks": True, "windowed": True}, B200, "0.6.13"),
    "gpt-oss verify": ({**VERIFY, "head_dim": 64, "sinks": True, "windowed": True}, B200, "0.6.13"),
    "fp8 KV decode": (FP8, B200, "0.6.13"),
    "fp8 KV decode, XQA": (FP8, HOPPER, "0.6.13"),
    "fp8 query, decode": (FP8_QUERY, B200, "0.6.13"),
    "fp8 query, extend": ({**EXTEND, **FP8_QUERY}, B200, "0.6.13"),
    "fp8 query and answer, extend": ({**EXTEND, **FP8_QUERY, "out_dtype": "float8_e4m3fn"}, CPU, "0.7.2.post1"),
    "fp8 query, FMHA v2": ({**EXTEND, **FP8_QUERY}, HOPPER, "0.6.13"),
    "fp8 answer, XQA": ({**FP8, "out_dtype": "float8_e4m3fn"}, HOPPER, "0.6.13"),
    "fp16": ({"q_dtype": "float16", "kv_dtype": "float16"}, CPU, "0.6.13"),
    "pages of 128": ({"page_size": 128}, B200, "0.6.13"),
    "pages of 128, XQA": ({"page_size": 128}, HOPPER, "0.6.10.post1"),
    "head_dim 96, XQA": ({"head_dim": 96}, HOPPER, "0.6.13"),
    "head_dim 96, FMHA v2": ({**EXTEND, "head_dim": 96}, HOPPER, "0.6.13"),
    "head_dim 512, XQA of 0.7": ({"head_dim": 512}, HOPPER, "0.7.2.post1"),
    "verify, XQA": (VERIFY, HOPPER, "0.6.13"),
    "verify with a window, XQA of 0.7": ({**VERIFY, "windowed": True}, HOPPER, "0.7.2.post1"),
    "soft cap, FMHA v2": ({**EXTEND, "soft_cap": True}, HOPPER, "0.6.13"),
    "extend with a window, Hopper": ({**EXTEND, "windowed": True}, HOPPER, "0.6.10.post1"),
    "extend with a window, SM 12.x of 0.7": ({**EXTEND, "windowed": True}, RTX, "0.7.2.post1"),
    "head_dim 512, FMHA v2 on SM 12.x of 0.7": ({**EXTEND, "head_dim": 512}, RTX, "0.7.2.post1"),
    "NHD": ({"kv_layout": "NHD"}, CPU, "0.6.13"),
    "sliced, XQA": ({"storage": "sliced"}, HOPPER, "0.6.13"),
    "padded, trtllm-gen": ({"storage": "padded"}, B200, "0.6.13"),
}

UNSUPPORTED: dict[str, tuple[dict[str, Any], tuple[int, int] | None, str, str]] = {
    "an older library": ({}, B200, "0.6.9", "older than 0.6.10.post1"),
    "a library without its post release": ({"head_dim": 512}, CPU, "0.6.10", "older than 0.6.10.post1"),
    "head_dim 512 at q_len 5": (
        {"mode": "verify", "max_q_len": 5, "head_dim": 512, "num_kv_heads": 4}, B200, "0.6.13", "headDimPerCtaV=512",
    ),
    "head_dim 512 at q_len 8, contract": (
        {"mode": "verify", "max_q_len": 8, "head_dim": 512}, CPU, "0.6.10.post1", "since flashinfer-python 0.6.14",
    ),
    "head_dim 96 on SM100": ({"head_dim": 96}, B200, "0.7.2.post1", "head_dim 64, 128, 256 or 512, not 96"),
    "head_dim 512, XQA": ({"head_dim": 512}, HOPPER, "0.6.13", "multiple of 16 up to 256, not 512"),
    "head_dim 72, XQA": ({"head_dim": 72}, RTX, "0.7.2.post1", "multiple of 16 up to 512, not 72"),
    "head_dim 512, large group, XQA": (
        {"head_dim": 512, "num_kv_heads": 1}, HOPPER, "0.7.2.post1", "group size up to 16, not 32",
    ),
    "head_dim 512, verify, XQA": ({**VERIFY, "head_dim": 512}, HOPPER, "0.7.2.post1", "q_len > 1 up to head_dim 256"),
    "head_dim 512, FMHA v2": ({**EXTEND, "head_dim": 512}, HOPPER, "0.7.2.post1", "FMHA v2 takes head_dim"),
    "head_dim 96, FMHA v2 on SM 12.x": ({**EXTEND, "head_dim": 96}, RTX, "0.6.13", "64, 128 or 256, not 96"),
    "window, FMHA v2 on SM 12.x": ({**EXTEND, "windowed": True}, RTX, "0.6.13", "has a window on SM 12.x since"),
    "pages of 8": ({"page_size": 8}, B200, "0.7.2.post1", "not 8"),
    "pages of 128 on SM100": ({"page_size": 128}, B200, "0.6.10.post1", "numTokensPerPage=128"),
    "pages of 256, XQA": ({"page_size": 256}, HOPPER, "0.7.2.post1", "XQA takes page_size 16, 32, 64 or 128, not 256"),
    "pages of 8, FMHA v2": ({**EXTEND, "page_size": 8}, HOPPER, "0.7.2.post1", "not 8"),
    "float32": ({"q_dtype": "float32", "kv_dtype": "float32"}, CPU, "0.7.2.post1", "not float32"),
    "soft cap on SM100": ({"soft_cap": True}, B200, "0.7.2.post1", "trtllm-gen decode has no logits soft cap"),
    "soft cap in extend": ({**EXTEND, "soft_cap": True}, CPU, "0.7.2.post1", "context has no logits soft cap"),
    "soft cap, XQA": ({"soft_cap": True}, HOPPER, "0.7.2.post1", "XQA has no logits soft cap"),
    "fp8 KV in extend": ({**EXTEND, **FP8}, CPU, "0.7.2.post1", "only under a float8_e4m3fn query"),
    "fp8 KV in extend, FMHA v2": ({**EXTEND, **FP8}, HOPPER, "0.7.2.post1", "only under a float8_e4m3fn query"),
    "fp8 query, XQA": (FP8_QUERY, HOPPER, "0.7.2.post1", "XQA takes float16 or bfloat16 queries"),
    "fp8 query, FMHA v2 on SM 12.x": ({**EXTEND, **FP8_QUERY}, RTX, "0.7.2.post1", "no float8_e4m3fn queries"),
    "fp8 answer, trtllm-gen": (
        {**FP8, "out_dtype": "float8_e4m3fn"}, CPU, "0.7.2.post1", "in float8_e4m3fn only under a float8_e4m3fn query",
    ),
    "verify with a window, XQA": ({**VERIFY, "windowed": True}, HOPPER, "0.6.13", "window per query token since"),
    "padded, XQA": ({"storage": "padded"}, HOPPER, "0.7.2.post1", "strides in whole heads"),
    "Ampere": ({}, (8, 0), "0.7.2.post1", "not 8.0"),
    "SM 11.0": ({}, (11, 0), "0.7.2.post1", "not 11.0"),
}  # fmt: skip


@pytest.mark.parametrize("fact", SUPPORTED)
def test_supported(fact: str) -> None:
    changes, sm, version = SUPPORTED[fact]
    assert supports(a_shape(**changes), platform(sm, version)) is None


@pytest.mark.parametrize("fact", UNSUPPORTED)
def test_unsupported_with_its_reason(fact: str) -> None:
    changes, sm, version, reason = UNSUPPORTED[fact]
    answer = supports(a_shape(**changes), platform(sm, version))
    assert answer is not None
    assert reason in answer.reason


@pytest.mark.parametrize(
    ("sm", "cuda", "fits"),
    [
        (B200, "12.8", True),
        (B200, "12.6", False),
        (B200, None, False),
        (HOPPER, "12.3", True),
        (HOPPER, "12.2", False),
        (RTX, "12.8", True),
        (RTX, "12.4", False),
    ],
)
def test_cuda_floors(sm: tuple[int, int], cuda: str | None, *, fits: bool) -> None:
    answer = supports(a_shape(), platform(sm, cuda=cuda))
    assert (answer is None) is fits
    assert answer is None or "CUDA" in answer.reason


def test_a_missing_or_unreadable_library_is_unsupported() -> None:
    assert isinstance(supports(a_shape(), Platform()), Unsupported)
    assert isinstance(supports(a_shape(), platform(B200, "from source")), Unsupported)


def test_only_major_10_is_the_sm100_family() -> None:
    assert [generation(sm) for sm in (B200, B300, HOPPER, RTX, (12, 1))] == ["sm100", "sm100", "sm90", "sm120", "sm120"]
    assert [generation(sm) for sm in ((8, 9), (9, 1), (11, 0))] == [None, None, None]
    assert generation(None) == "sm100"


def test_dispatch_is_that_of_serving_engines() -> None:
    assert [family(mode, "sm100") for mode in ("decode", "verify", "extend", "mixed")] == [
        "trtllm-gen-decode",
        "trtllm-gen-decode",
        "trtllm-gen-context",
        "trtllm-gen-context",
    ]
    assert [family(mode, "sm120") for mode in ("decode", "verify", "extend", "mixed")] == [
        "xqa",
        "xqa",
        "fmha_v2",
        "fmha_v2",
    ]


def test_numerics_are_those_of_the_kernel() -> None:
    hopper, b200, cpu = (make(platform(sm)) for sm in (HOPPER, B200, CPU))
    assert hopper.numerics(a_shape()).p == "bfloat16"
    assert hopper.numerics(a_shape(**FP8)).p == "float8_e4m3fn"
    assert make(platform(RTX)).numerics(a_shape(**FP8)).p == "bfloat16"
    half = {"q_dtype": "float16", "kv_dtype": "float16"}
    assert hopper.numerics(a_shape(**EXTEND, **half)).accumulator == "float16"
    assert hopper.numerics(a_shape(**EXTEND)).accumulator == "float32"
    assert b200.numerics(a_shape(**FP8)).p == "bfloat16"
    assert (b200.numerics(a_shape()).partials, b200.numerics(a_shape(**EXTEND)).partials) == ("bfloat16", None)
    assert cpu.numerics(a_shape(**FP8)).p == "float32"


def test_promises_are_what_is_documented_or_measured() -> None:
    for sm, version, base in ((CPU, "0.6.13", "two"), (B200, "0.6.10.post1", None), (HOPPER, "0.7.2.post1", None)):
        promises = make(platform(sm, version)).promises
        assert promises.lse == base
        assert not promises.empty_kv
    hopper, b200 = make(platform(HOPPER)).promises, make(platform(B200)).promises
    assert hopper.dead_k >= {"nan", "inf", "huge"}
    assert hopper.dead_v == {"zero", "stale", "huge"}
    assert hopper.reclaimed_v == {"zero", "stale"}
    assert b200.dead_k == b200.dead_v == b200.reclaimed_v == {"zero", "stale"}


def test_asking_imports_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flashinfer", None)
    backend = make(platform(B200))
    assert backend.supports(a_shape(), platform(HOPPER)) is None
    assert backend.numerics(a_shape()).p == "bfloat16"
