"""FlashInfer's tests of the kernels that it takes from TensorRT-LLM: trtllm-gen, XQA, fmha_v2."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

from ci.benchmarks.peerstyles import tolerances
from ci.benchmarks.peerstyles.cell import Cell, cut, layer_of

if TYPE_CHECKING:
    from attnconf.cases.case import KVLayout
    from attnconf.cases.dtypes import KVDtype, QDtype

_DTYPES: list[tuple[QDtype, KVDtype]] = [
    ("bfloat16", "bfloat16"),
    ("float16", "float16"),
    ("bfloat16", "float8_e4m3fn"),
    ("float16", "float8_e4m3fn"),
]
_LAYOUTS: list[KVLayout] = ["HND", "NHD"]
# batch, query tokens a request, page size, KV heads, group size: of test_trtllm_batch_decode
_DECODE = [
    (4, 1, 16, 2, 1), (4, 1, 32, 2, 5), (4, 2, 64, 2, 5), (4, 3, 32, 2, 5), (4, 3, 64, 2, 1), (4, 4, 64, 4, 1),
    (4, 5, 64, 4, 8), (128, 1, 64, 2, 5), (128, 2, 32, 4, 1), (128, 3, 16, 4, 8), (128, 4, 16, 2, 5),
    (128, 5, 16, 2, 5), (256, 1, 64, 4, 8), (256, 2, 16, 2, 8), (256, 3, 64, 4, 5), (256, 4, 32, 2, 8),
    (256, 5, 32, 2, 1),
]  # fmt: skip
# and head_dim: of test_xqa_batch_decode
_XQA_DECODE = [
    (4, 4, 64, 4, 2, 128), (4, 2, 16, 2, 4, 128), (4, 3, 32, 2, 6, 128), (4, 1, 16, 2, 1, 128), (4, 1, 32, 2, 5, 128),
    (128, 1, 64, 2, 6, 128), (256, 1, 64, 4, 8, 128), (4, 1, 32, 2, 16, 128), (4, 4, 32, 2, 16, 128),
    (4, 1, 32, 2, 4, 512), (4, 1, 32, 2, 5, 512), (16, 1, 64, 2, 8, 512), (4, 1, 16, 2, 16, 512),
]  # fmt: skip
_SPEC_WINDOW = [(4, 2, 32, 2, 4), (4, 4, 64, 4, 2), (4, 5, 16, 2, 8), (4, 4, 32, 2, 16)]
_PREFILL = [
    (4, 16, 2, 1), (4, 32, 4, 5), (4, 64, 4, 8), (128, 16, 2, 5), (128, 32, 4, 1), (128, 64, 2, 8), (256, 16, 4, 8),
    (256, 32, 2, 8), (256, 64, 4, 1), (256, 64, 4, 5),
]  # fmt: skip


def _lengths(rng: random.Random, batch: int, most: int, new: int) -> tuple[tuple[int, int], ...]:
    """Draw cached lengths as generate_seq_lens_decode does: uniform up to ``most``, which the last one is."""
    return cut([*((rng.randint(1, most), new) for _ in range(batch - 1)), (most, new)])


def trtllm_batch_decode(rng: random.Random) -> Cell:
    """test_trtllm_gen_attention_decode.py::test_trtllm_batch_decode: 126 tokens at most, windows of 128."""
    batch, new, page_size, kv_heads, group = rng.choice(_DECODE)
    q_dtype, kv_dtype = rng.choice(_DTYPES)
    tolerance = tolerances.TRTLLM_DECODE
    return Cell(
        test="trtllm_batch_decode",
        tolerance=tolerance.doubled() if new > 1 else tolerance,
        mode="verify" if new > 1 else "decode",
        layer=layer_of(
            kv_heads * group,
            kv_heads,
            rng.choice([128, 256]),
            window=rng.choice([-1, 127]),
            sinks=rng.choice([True, False]),
        ),
        requests=_lengths(rng, batch, 110, new),
        page_size=page_size,
        kv_layout=rng.choice(_LAYOUTS),
        storage="interleaved",
        q_dtype=q_dtype,
        kv_dtype=kv_dtype,
        table="shuffled",
        amax="apart",
    )


def xqa_batch_decode(rng: random.Random) -> Cell:
    """test_xqa_batch_decode.py::test_xqa_batch_decode."""
    batch, new, page_size, kv_heads, group, head_dim = rng.choice(_XQA_DECODE)
    window, sinks = rng.choice([-1, 127]), rng.choice([True, False])
    cell = trtllm_batch_decode(rng)
    return replace(
        cell,
        test="xqa_batch_decode",
        tolerance=tolerances.XQA_DECODE_FP8 if cell.kv_dtype == "float8_e4m3fn" else tolerances.XQA_DECODE,
        mode="verify" if new > 1 else "decode",
        layer=layer_of(kv_heads * group, kv_heads, head_dim, window=window, sinks=sinks),
        requests=_lengths(rng, batch, 110, new),
        page_size=page_size,
    )


def xqa_spec_window(rng: random.Random) -> Cell:
    """test_xqa_batch_decode.py::test_xqa_batch_decode_spec_dec_sliding_window, up to 300 tokens."""
    batch, new, page_size, kv_heads, group = rng.choice(_SPEC_WINDOW)
    fp8 = rng.choice([True, False])
    return Cell(
        test="xqa_spec_window",
        tolerance=tolerances.XQA_DECODE_FP8 if fp8 else tolerances.XQA_DECODE,
        mode="verify",
        layer=layer_of(kv_heads * group, kv_heads, 128, window=rng.choice([63, 127]), sinks=rng.choice([True, False])),
        requests=_lengths(rng, batch, 300, new),
        page_size=page_size,
        kv_layout="HND",
        storage="interleaved",
        kv_dtype="float8_e4m3fn" if fp8 else "bfloat16",
        table="shuffled",
        amax="apart",
    )


def xqa_coded(rng: random.Random) -> Cell:
    """test_xqa_batch_decode.py::test_xqa_batch_decode_mask_mode_deterministic: zero Q and K over coded V."""
    group = rng.choice([4, 16])
    return Cell(
        test="xqa_mask_mode_deterministic",
        tolerance=tolerances.XQA_CODED,
        mode="verify",
        layer=layer_of(2 * group, 2, 128),
        requests=((21, 4), (3, 4)),
        page_size=16,
        storage="interleaved",
        kv_dtype=rng.choice(["bfloat16", "float8_e4m3fn"]),
        dead="zero",
        inputs="coded",
    )


def xqa(rng: random.Random) -> Cell:
    """test_xqa.py::test_xqa: all requests equally long, windows of 256, dead slots zeroed, the output NaN before."""
    dtype: QDtype = rng.choice(["float16", "bfloat16"])
    kv_heads, group = rng.choice([2, 4]), rng.choice([8, 16])
    head_dim = rng.choice([32, 128])
    fp8, kv_scale = rng.choice([(False, 1.0), (True, 1.0), (True, 0.5)])
    return Cell(
        test="xqa",
        tolerance=tolerances.XQA_FP8 if fp8 else tolerances.XQA,
        mode="decode",
        layer=layer_of(
            kv_heads * group,
            kv_heads,
            head_dim,
            window=rng.choice([-1, 255]),
            sinks=rng.choice([True, False]),
            sm_scale=rng.choice([1.0, 0.5]) * head_dim**-0.5,
            scales=(kv_scale, kv_scale),
        ),
        requests=((rng.choice([2, 15, 256, 512, 514]) - 1, 1),) * rng.choice([1, 4]),
        page_size=rng.choice([16, 64]),
        kv_layout=rng.choice(_LAYOUTS),
        q_dtype=dtype,
        kv_dtype="float8_e4m3fn" if fp8 else dtype,
        table="shuffled",
        dead="zero",
        spread=0.25 if fp8 else 1.0,
        sinks="steps",
        unwritten=float("nan"),
    )


def trtllm_batch_prefill(rng: random.Random) -> Cell:
    """test_trtllm_gen_attention_prefill.py::test_trtllm_batch_prefill: no window."""
    batch, page_size, kv_heads, group = rng.choice(_PREFILL)
    dtype: QDtype = rng.choice(["bfloat16", "float16"])
    lengths = [(rng.randint(1, 2047), rng.randint(1, 511)) for _ in range(batch)]
    return Cell(
        test="trtllm_batch_prefill",
        tolerance=tolerances.TRTLLM_PREFILL,
        mode="extend",
        layer=layer_of(kv_heads * group, kv_heads, rng.choice([128, 256]), sinks=rng.choice([True, False])),
        requests=cut([*lengths[:-1], (2047, 511)]),
        page_size=page_size,
        kv_layout=rng.choice(_LAYOUTS),
        storage="interleaved",
        q_dtype=dtype,
        kv_dtype=dtype,
        table="shuffled",
    )


def fmha_v2_prefill(rng: random.Random) -> Cell:
    """test_fmha_v2_prefill.py::test_trtllm_fmha_v2_prefill over pages: windows of 128 and 513, soft caps."""
    dtype: QDtype = rng.choice(["float16", "bfloat16"])
    lengths = [(0, rng.randint(1, 1024)) for _ in range(rng.choice([1, 16]))]
    return Cell(
        test="trtllm_fmha_v2_prefill",
        tolerance=tolerances.FMHA_V2,
        mode="extend",
        layer=layer_of(
            rng.choice([4, 32]),
            4,
            rng.choice([128, 256]),
            window=rng.choice([-1, 127, 512]),
            cap=rng.choice([None, 30.0]),
        ),
        requests=cut(lengths),
        page_size=rng.choice([32, 128]),
        kv_layout=rng.choice(_LAYOUTS),
        storage="interleaved",
        q_dtype=dtype,
        kv_dtype=dtype,
    )


GRIDS = (
    trtllm_batch_decode,
    xqa_batch_decode,
    xqa_spec_window,
    xqa_coded,
    xqa,
    trtllm_batch_prefill,
    fmha_v2_prefill,
)
