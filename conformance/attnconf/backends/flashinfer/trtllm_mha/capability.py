"""The capability of each kernel family, by shape, compute capability, CUDA and FlashInfer version.

Sources, of every release from 0.6.10.post1 to 0.7.4: the checks in decode.py, prefill.py and xqa.py, and the build
rules in jit/xqa.py and jit/attention/fmha_v2/fmha_library.py; ``fixtures/evidence/FLOORS.md`` tables them. Which
trtllm-gen kernels exist, their list and the selection in fmhaKernels.cuh say (``trtllm_gen``); where these are unknown,
the shapes are those of FlashInfer's own tests.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from attnconf.backends.flashinfer import floors
from attnconf.backends.flashinfer.package import FLOOR, PACKAGE, library_version
from attnconf.backends.flashinfer.trtllm_gen import shapes
from attnconf.backends.flashinfer.trtllm_mha.dispatch import SCALE_TOKENS, Family, Generation, family, generation
from attnconf.backends.protocol import Unsupported
from attnconf.cases.dtypes import E5M2, FP8, NVFP4

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attnconf.cases.shape import KernelShape
    from attnconf.platforms import Platform

_TITLES: dict[Family, str] = {
    "trtllm-gen-decode": "trtllm-gen decode",
    "trtllm-gen-context": "trtllm-gen context",
    "xqa": "XQA",
    "fmha_v2": "FMHA v2",
}

_ONE_WIDTH: dict[Family, str] = {
    "trtllm-gen-decode": "has kernels of other widths of values for MLA alone, not for grouped-query attention",
    "trtllm-gen-context": "has kernels of other widths of values for MLA alone, not for grouped-query attention",
    "xqa": "takes keys and values of one head_dim",
    "fmha_v2": "is built for values as wide as keys over a paged cache",
}
"""Of values that are not as wide as keys: trtllm_fmha_kernel_launcher.cu (``is_mla_decode``), the shapes in xqa.py, and
``head_size_v == 0`` in fmha_library.py, whose 192 and 128 are of separate tensors."""

_NO_E5M2: dict[Family, str] = {
    "trtllm-gen-decode": f"has no kernels over {E5M2} KV in any known list",
    "trtllm-gen-context": f"has no kernels over {E5M2} KV in any known list",
    "xqa": f"would be built for elements of 16 bits and take {E5M2} KV for them: FlashInfer does not refuse it",
    "fmha_v2": f"takes KV of the query's dtype, and would take {E5M2} for it",
}
"""Of KV in e5m2: the lists of kernels, and ``gen_xqa_module`` in jit/xqa.py, whose last branch (``CACHE_ELEM_ENUM=0``)
takes every dtype that it does not name; 0.6.18.post1."""

_GEN_NVFP4_SINCE = Version("0.6.18")
"""The oldest release whose ``kv_cache_sf`` was read."""

_GEN_NVFP4_HEAD_DIMS = (64, 128, 256)
_NO_NVFP4: dict[Family, str] = {
    "xqa": f"takes {NVFP4} KV on SM 12.x alone, where it was never run, so the adapter hands it no scales of blocks",
    "fmha_v2": f"takes KV of the query's dtype, and has no kernels over {NVFP4}",
}
"""Of KV in NVFP4: xqa.py (SM12x) and fmha_library.py of 0.6.18.post1. In the lists of trtllm-gen all rows with E2M1
keys have E4M3 queries and answers, at head_dim up to 256."""

_CUDA_FLOORS: dict[Generation, Version] = {
    "sm90": Version("12.3"),
    "sm100": Version("12.8"),
    "sm120": Version("12.8"),
}
SIXTEEN_BIT = frozenset({"float16", "bfloat16"})
_XQA_PAGE_SIZES = (16, 32, 64, 128)
_GEN_PAGE_SIZES = (16, 32, 64)
_GEN_DYNAMIC_PAGE_SIZES = (128, 256, 512, 1024)
_GEN_HEAD_DIMS = (64, 128, 256, 512)
_GEN_LARGE_HEAD = 512
_GEN_LARGE_HEAD_Q_LEN = 4
_MOST_VERIFIED = 8
"""The most query tokens of a verify step with which XQA, and trtllm-gen without its list, were tried."""

_XQA_HEAD_DIM = 256
_XQA_LARGE_HEAD_DIM = 512
_XQA_LARGE_HEAD_GROUP = 16
_FMHA_HEAD_DIMS: dict[Generation, tuple[int, ...]] = {
    "sm90": (32, 40, 48, 64, 80, 96, 104, 128, 160, 192, 256),
    "sm120": (64, 128, 256),
}


def supports(shape: KernelShape, platform: Platform) -> Unsupported | None:
    """Return None, or the first reason why the kernels for ``platform`` cannot run ``shape``."""
    reason = next(_reasons(shape, platform), None)
    return None if reason is None else Unsupported(reason)


def unserved(shape: KernelShape, kernel: Family, machine: Generation) -> str | None:
    """Return why no argument of ``kernel``'s function says what ``shape`` asks, in no known release, or None."""
    return next(chain(_tensor_reasons(shape, kernel, machine), _mask_reasons(shape, kernel, machine)), None)


def _reasons(shape: KernelShape, platform: Platform) -> Iterator[str]:
    machine = generation(platform.sm)
    if machine is None:
        yield f"FlashInfer's TensorRT-LLM kernels are for SM 9.0, 10.x and 12.x, not {platform.sm_text}"
        return
    version = library_version(platform)
    if version is None:
        yield f"{PACKAGE} is not installed, or its version cannot be read"
        return
    if version < FLOOR:
        yield f"{PACKAGE} {version} is older than {FLOOR}, the oldest whose calls are known"
    if platform.sm is not None:
        yield from _cuda_reasons(machine, platform)
    kernel = family(shape.mode, machine)
    yield from _tensor_reasons(shape, kernel, machine)
    yield from _mask_reasons(shape, kernel, machine)
    yield from _verify_reasons(shape, kernel)
    if shapes.is_known(platform):
        absent = shapes.why_absent(shape, platform)
        if absent is not None:
            yield absent
        return
    if kernel == "xqa":
        yield from _xqa_reasons(shape, version)
    elif kernel == "fmha_v2":
        yield from _fmha_v2_reasons(shape, machine, version)
    else:
        yield from _trtllm_gen_reasons(shape, version)


def _cuda_reasons(machine: Generation, platform: Platform) -> Iterator[str]:
    floor = _CUDA_FLOORS[machine]
    try:
        found = None if platform.cuda is None else Version(platform.cuda)
    except InvalidVersion:
        found = None
    if found is None:
        yield f"the CUDA version is unknown; SM {platform.sm_text} needs CUDA >= {floor}"
    elif found < floor:
        yield f"CUDA {found} is older than {floor}, which SM {platform.sm_text} needs"


def _tensor_reasons(shape: KernelShape, kernel: Family, machine: Generation) -> Iterator[str]:
    title = _TITLES[kernel]
    if shape.storage == "unlike" and kernel != "fmha_v2":
        yield f"{title} reads keys and values with one set of strides"
    if shape.q_dtype == FP8 and kernel == "xqa":
        yield f"XQA takes float16 or bfloat16 queries, not {FP8}"
    if shape.q_dtype == FP8 and machine == "sm120":
        yield f"FMHA v2 takes no {FP8} queries on SM 12.x"
    if shape.q_dtype not in (*SIXTEEN_BIT, FP8):
        yield f"{title} takes float16, bfloat16 or {FP8} queries, not {shape.q_dtype}"
    if shape.head_scales:
        yield f"{title} takes one factor for all heads (bmm1_scale and bmm2_scale), and no scale of each KV head"
    if shape.kv_dtype == NVFP4:
        yield from [f"{title} {_NO_NVFP4[kernel]}"] if kernel in _NO_NVFP4 else _gen_four_bit_reasons(shape, title)
    if shape.kv_dtype == E5M2:
        yield f"{title} {_NO_E5M2[kernel]}"
    if shape.kv_dtype == FP8 != shape.q_dtype and kernel in {"trtllm-gen-context", "fmha_v2"}:
        yield f"{title} reads {FP8} KV only under a {FP8} query, not under {shape.q_dtype}"
    if shape.out_dtype == FP8 != shape.q_dtype and kernel != "xqa":
        yield f"{title} answers in {FP8} only under a {FP8} query, not under {shape.q_dtype}"


def _verify_reasons(shape: KernelShape, kernel: Family) -> Iterator[str]:
    if shape.ragged:
        yield f"{_TITLES[kernel]} is called with one number of query tokens for all requests of a verify step"
    if shape.mode == "verify" and shape.max_q_len > _MOST_VERIFIED and kernel == "xqa":
        yield f"XQA is known to take q_len up to {_MOST_VERIFIED}, not {shape.max_q_len}"


def _mask_reasons(shape: KernelShape, kernel: Family, machine: Generation) -> Iterator[str]:
    if shape.spans:
        yield f"{_TITLES[kernel]} takes no mask of images: the tokens of a span would see each other causally"
    if shape.bidirectional:
        yield f"{_TITLES[kernel]} is called with causal masks: a row would not see the tokens behind it"
    if shape.tree and kernel != "xqa":
        yield f"{_TITLES[kernel]} takes no mask of drafts: those of a tree would see their siblings"
    if shape.tree and shape.windowed:
        # xqa.py: "tree-structured drafts are not supported with sliding window"; it counts rows as positions.
        yield "XQA counts a window from a draft's place among the others, so it takes trees without one"
    if shape.tree and shape.kv_dtype == FP8 and machine == "sm90":
        yield f"XQA's mask of drafts over {FP8} KV on SM 9.0 is wrong where it is not causal, according to xqa.py"
    if shape.chunked:
        yield f"{_TITLES[kernel]} is given a window by FlashInfer, and no chunk size: chunked layers would see too much"
    if shape.head_dim_v != shape.head_dim:
        yield f"{_TITLES[kernel]} {_ONE_WIDTH[kernel]}"
    if shape.soft_cap and kernel != "fmha_v2":
        yield f"{_TITLES[kernel]} has no logits soft cap"


def _gen_four_bit_reasons(shape: KernelShape, title: str) -> Iterator[str]:
    """Yield what trtllm-gen over NVFP4 KV has no kernel for, or FlashInfer no pool of scales (``kv_cache_sf``)."""
    if {shape.q_dtype, shape.out_dtype} != {FP8}:
        yield f"{title} reads {NVFP4} KV only under a {FP8} query, and answers in {FP8}"
    if shape.kv_layout != "HND":
        yield f"{title} has {NVFP4} KV of layout NHD copied as a whole at each call"
    if shape.storage == "sliced":
        yield f"{title} wants the scales of blocks of a page's tokens in a row, and storage sliced has others between"
    if shape.page_size % SCALE_TOKENS:
        yield f"{title} has the block scales of {SCALE_TOKENS} tokens side by side, and pages have {shape.page_size}"
    if shape.head_dim not in _GEN_NVFP4_HEAD_DIMS:
        yield f"{title} is listed with head_dim {_either(_GEN_NVFP4_HEAD_DIMS)} over {NVFP4} KV, not {shape.head_dim}"


def _trtllm_gen_reasons(shape: KernelShape, version: Version) -> Iterator[str]:
    if shape.kv_dtype == NVFP4 and version < _GEN_NVFP4_SINCE:
        yield f"trtllm-gen is called with scales of blocks since {PACKAGE} {_GEN_NVFP4_SINCE}, and this is {version}"
    if shape.mode == "verify" and shape.max_q_len > _MOST_VERIFIED:
        yield f"trtllm-gen is known to take q_len up to {_MOST_VERIFIED} in a decode, not {shape.max_q_len}"
    if shape.head_dim not in _GEN_HEAD_DIMS:
        yield f"trtllm-gen is known to have head_dim {_either(_GEN_HEAD_DIMS)}, not {shape.head_dim}"
    if shape.head_dim == _GEN_LARGE_HEAD and shape.mode == "verify":
        too_long = shape.max_q_len > _GEN_LARGE_HEAD_Q_LEN
        if too_long and version < floors.GEN_WIDE_VERIFY.since:
            yield (
                f"trtllm-gen has head_dim 512 at q_len 5 to 8 since {PACKAGE} {floors.GEN_WIDE_VERIFY.since},"
                f" and this is {version}"
            )
    if shape.page_size in _GEN_PAGE_SIZES:
        return
    if shape.page_size not in _GEN_DYNAMIC_PAGE_SIZES:
        allowed = _either(_GEN_PAGE_SIZES + _GEN_DYNAMIC_PAGE_SIZES)
        yield f"trtllm-gen takes page_size {allowed}, not {shape.page_size}"
    elif version < floors.GEN_DYNAMIC_PAGES.since:
        yield (
            f"trtllm-gen takes page_size {shape.page_size} since {PACKAGE} {floors.GEN_DYNAMIC_PAGES.since},"
            f" and this is {version}"
        )


def _xqa_reasons(shape: KernelShape, version: Version) -> Iterator[str]:
    if shape.page_size not in _XQA_PAGE_SIZES:
        yield f"XQA takes page_size {_either(_XQA_PAGE_SIZES)}, not {shape.page_size}"
    if shape.storage == "padded":
        # The kernel divides a page's stride by head_dim; with a remainder it would read other bytes.
        yield "XQA counts strides in whole heads, and pages of storage padded are not that far apart"
    large = version >= floors.XQA_WIDE.since
    most = _XQA_LARGE_HEAD_DIM if large else _XQA_HEAD_DIM
    if shape.head_dim % 16 or shape.head_dim > most:
        yield f"XQA takes a head_dim that is a multiple of 16 up to {most}, not {shape.head_dim}"
    if shape.head_dim > _XQA_HEAD_DIM:
        if shape.max_q_len > 1:
            yield f"XQA takes q_len > 1 up to head_dim {_XQA_HEAD_DIM}, not {shape.head_dim}"
        if shape.group_size > _XQA_LARGE_HEAD_GROUP:
            yield (
                f"XQA above head_dim {_XQA_HEAD_DIM} takes a group size up to {_XQA_LARGE_HEAD_GROUP},"
                f" not {shape.group_size}"
            )
    if shape.max_q_len > 1 and shape.windowed and version < floors.XQA_WINDOWED_VERIFY.since:
        # Its q_len > 1 kernels applied only the draft mask per query token, and the window per tile of keys.
        since = floors.XQA_WINDOWED_VERIFY.since
        yield f"XQA applies a window per query token since {PACKAGE} {since}, and this is {version}"


def _fmha_v2_reasons(shape: KernelShape, machine: Generation, version: Version) -> Iterator[str]:
    heads = _FMHA_HEAD_DIMS[machine]
    if machine == "sm120" and version >= floors.FMHA_SM120.since:
        heads = (*heads, 512)
    if shape.head_dim not in heads:
        yield f"FMHA v2 takes head_dim {_either(heads)}, not {shape.head_dim}"
    if shape.page_size not in _XQA_PAGE_SIZES:
        # Both kernels of the machine read one pool, so decode's page sizes apply to prefill, too.
        allowed = _either(_XQA_PAGE_SIZES)
        yield f"FMHA v2 shares its pool with XQA, which takes page_size {allowed}, not {shape.page_size}"
    if shape.windowed and machine == "sm120" and version < floors.FMHA_SM120.since:
        yield f"FMHA v2 has a window on SM 12.x since {PACKAGE} {floors.FMHA_SM120.since}, and this is {version}"


def _either(values: tuple[int, ...]) -> str:
    return ", ".join(str(value) for value in values[:-1]) + f" or {values[-1]}"
