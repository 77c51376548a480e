"""FlashInfer's tests of its own kernels, and of those that it builds for attention sinks and from CUTLASS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ci.benchmarks.peerstyles import tolerances
from ci.benchmarks.peerstyles.cell import Cell, cut, layer_of, mode_of

if TYPE_CHECKING:
    import random

    from attnconf.cases.dtypes import QDtype
    from ci.benchmarks.peerstyles.cell import Dead

    Requests = tuple[tuple[int, int], ...]


def sliding_window(rng: random.Random) -> Cell:
    """test_sliding_window.py, decode and paged prefill: windows of 14 to 534 keys."""
    kv_heads = rng.choice([1, 4])
    if rng.choice([True, False]):
        window = rng.choice([33, 533])
        requests = ((rng.choice([1, 3, 99, 199, 1999]) - 1, 1),) * rng.choice([1, 3, 13, 32])
    else:
        window = rng.choice([13, 33, 111])
        kv_len, new = rng.choice([54, 397, 1177]), rng.choice([1, 37, 47])
        requests = ((kv_len - new, new),) * 12
    return Cell(
        test="sliding_window",
        tolerance=tolerances.FA2,
        mode=mode_of(requests),
        layer=layer_of(rng.choice([4, 8]), kv_heads, rng.choice([64, 128, 256, 512]), window=window),
        requests=cut(list(requests)),
        page_size=rng.choice([1, 16]),
        q_dtype="float16",
        kv_dtype="float16",
    )


def batch_kernels(rng: random.Random) -> Cell:
    """test_batch_decode_kernels.py and test_batch_prefill_kernels.py over pages, without RoPE."""
    decode = rng.choice([True, False])
    kv_len = rng.choice([54, 97, 512, 2048])
    new = 1 if decode else min(kv_len, rng.choice([37, 17, 127, 577]))
    return Cell(
        test="batch_kernels",
        tolerance=tolerances.FA2,
        mode="decode" if decode else "extend",
        layer=layer_of(rng.choice([4, 32]), 4, rng.choice([128, 256, 512] if decode else [64, 128, 256])),
        requests=((kv_len - new, new),) * 4,
        page_size=rng.choice([1, 8, 16] if decode else [1, 5, 16]),
        storage="interleaved",
        q_dtype="float16",
        kv_dtype=rng.choice(["float16", "float8_e4m3fn"]) if decode else "float16",
    )


def sink_blackwell(rng: random.Random) -> Cell:
    """test_attention_sink_blackwell.py, decode and context: sm_scale 1."""
    dtype: QDtype = rng.choice(["float16", "bfloat16"])
    decode, length = rng.choice([True, False]), rng.choice([32, 128, 1024])
    half = tolerances.SINK_FP16 if decode else tolerances.SINK_FP16_CONTEXT
    return Cell(
        test="attention_sink_blackwell",
        tolerance=half if dtype == "float16" else tolerances.SINK_BF16,
        mode="decode" if decode else "extend",
        layer=layer_of(32, rng.choice([8, 32]), rng.choice([64, 128]), sinks=True, sm_scale=1.0),
        requests=cut([(length - 1, 1) if decode else (0, length)] * rng.choice([1, 4, 16])),
        page_size=32,
        kv_layout="HND",
        q_dtype=dtype,
        kv_dtype=dtype,
    )


_VARLEN = ((16, 7), (0, 300), (256, 1291))


def modular_paged(rng: random.Random) -> Cell:
    """test_modular_fmha_prefill_paged.py: NaN in free pages and behind the window; paged must equal ragged."""
    aligned, ragged, reclaiming = rng.choice([8, 16, 64, 128]), rng.choice([8, 16]), rng.choice([8, 16])
    shapes: list[tuple[Requests, int, int, bool, Dead]] = [
        (((0, 512), (0, 512)), aligned, -1, False, "noise"),
        (_VARLEN, ragged, -1, False, "nan"),
        (((0, 1024),), 8, 255, False, "noise"),
        (_VARLEN, reclaiming, 127, True, "nan"),
        (((256, 1291),), 64, 511, True, "nan"),
    ]
    requests, page_size, window, reclaimed, dead = rng.choice(shapes)
    return Cell(
        test="modular_fmha_prefill_paged",
        tolerance=tolerances.MODULAR,
        mode="extend",
        layer=layer_of(8, 2, 128, window=window),
        requests=requests,
        page_size=page_size,
        table="shuffled",
        dead=dead,
        reclaimed=reclaimed,
        pool_pages=5,
    )


GRIDS = (sliding_window, batch_kernels, sink_blackwell, modular_paged)
