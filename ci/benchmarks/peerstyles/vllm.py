"""vLLM's tests of paged attention: kernels against FlashInfer or paged PyTorch, backends against flex attention.

The commits are with the tolerances. Tables of the kernel tests are drawn with replacement out of a pool that is noise
throughout; ours has 2,048 pages, the smaller of their two sizes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ci.benchmarks.peerstyles import tolerances
from ci.benchmarks.peerstyles.cell import Cell, cut, layer_of, mode_of

if TYPE_CHECKING:
    import random

_POOL = 2048
_MIXED = (((1, 1328), (5, 18), (129, 463)), ((1, 523), (1, 37), (1, 2011)))
_BATCHES = {  # total lengths, new tokens
    "small_decode": ((32, 40), (1, 1)),
    "small_prefill": ((32, 40), (8, 8)),
    "mixed_small": ((32, 40, 48, 56), (1, 1, 5, 5)),
    "medium_decode": ((128, 256, 512, 1024, 128, 256, 512, 1024), (1,) * 8),
    "medium_prefill": ((256, 512, 1024, 2048), (16,) * 4),
    "mixed_medium": ((512, 1024, 2048, 512, 1024, 2048), (1, 1, 1, 7, 7, 7)),
    "large_decode": ((2048,) * 32, (1,) * 32),
    "large_prefill": ((4096,) * 8, (32,) * 8),
    "mixed_large": ((1024, 2048, 4096, 1024, 2048, 4096), (1, 1, 1, 32, 32, 32)),
    "single_decode": ((1024,), (1,)),
    "single_prefill": ((1024,), (64,)),
}
_WINDOWED = ("small_decode", "small_prefill", "mixed_medium", "large_decode", "large_prefill", "mixed_large")
_WINDOW = 2047
"""The window of the model that the test loads; its config was not read, so this one is an assumption."""


def _cached(total: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[int, int]]:
    return [(length - tokens, tokens) for length, tokens in zip(total, new, strict=True)]


def trtllm_decode(rng: random.Random) -> Cell:
    """tests/kernels/attention/test_flashinfer_trtllm_attention.py, decode: up to 4,096 tokens."""
    fp8 = rng.choice([True, False])
    lengths = [(rng.randint(1, 4096), 1) for _ in range(rng.choice([4, 12]) - 1)]
    return Cell(
        test="flashinfer_trtllm_decode",
        tolerance=tolerances.VLLM_TRTLLM_FP8 if fp8 else tolerances.VLLM_TRTLLM,
        mode="decode",
        layer=layer_of(rng.choice([64, 40]), 8, 128, window=rng.choice([-1, 127]), sinks=rng.choice([True, False])),
        requests=cut([*lengths, (4096, 1)]),
        page_size=16,
        kv_layout="HND",
        storage="interleaved",
        kv_dtype="float8_e4m3fn" if fp8 else "bfloat16",
        table="with replacement",
        pool_pages=_POOL,
        amax="joint",
    )


def trtllm_prefill(rng: random.Random) -> Cell:
    """tests/kernels/attention/test_flashinfer_trtllm_attention.py, prefill."""
    lengths = [(rng.randint(1, 4096), rng.randint(1, 1024)) for _ in range(rng.choice([4, 12]) - 1)]
    return Cell(
        test="flashinfer_trtllm_prefill",
        tolerance=tolerances.VLLM_TRTLLM,
        mode="extend",
        layer=layer_of(rng.choice([64, 40]), 8, 128, window=rng.choice([-1, 127]), sinks=rng.choice([True, False])),
        requests=cut([*lengths, (4096, 1024)]),
        page_size=16,
        kv_layout="HND",
        storage="interleaved",
        table="with replacement",
        pool_pages=_POOL,
    )


def unified(rng: random.Random) -> Cell:
    """tests/kernels/attention/test_triton_unified_attention.py: windows of 64 to 256, soft caps."""
    heads = rng.choice([(4, 4), (8, 2), (5, 1)])
    lengths = rng.choice(_MIXED)
    requests = tuple((total - new, new) for new, total in lengths)
    return Cell(
        test="triton_unified_attention",
        tolerance=tolerances.VLLM_UNIFIED,
        mode=mode_of(requests),
        layer=layer_of(
            *heads, rng.choice([128, 256]), window=rng.choice([0, 64, 128, 256]) - 1, cap=rng.choice([None, 50.0])
        ),
        requests=requests,
        page_size=16,
        table="with replacement",
        pool_pages=_POOL,
    )


def flashinfer_paged(rng: random.Random) -> Cell:
    """tests/kernels/attention/test_flashinfer.py, decode and prefill: prefill divides K and V by sqrt(head_dim)."""
    decode = rng.choice([True, False])
    if decode:
        requests = tuple((total - 1, 1) for total in rng.choice([(1328, 18, 463), (1, 54, 293, 70)]))
    else:
        requests = tuple((total - new, new) for new, total in _MIXED[0])
    head_dim = rng.choice([128, 256])
    return Cell(
        test="flashinfer_paged",
        tolerance=tolerances.VLLM_FLASHINFER if decode else tolerances.VLLM_FLASHINFER_PREFILL,
        mode=mode_of(requests),
        layer=layer_of(
            *rng.choice([(32, 8), (6, 1)]), head_dim, window=rng.choice([0, 64]) - 1, cap=rng.choice([None, 30.0])
        ),
        requests=requests,
        page_size=rng.choice([16, 32]),
        storage="interleaved",
        table="with replacement",
        pool_pages=_POOL,
        spread=1.0 if decode else head_dim**-0.5,
    )


def backends(rng: random.Random) -> Cell:
    """tests/v1/attention/test_attention_backends.py: causal, and with a window that few lengths reach."""
    windowed = rng.choice([True, False])
    names = _WINDOWED if windowed else tuple(_BATCHES)
    shards = rng.choice([1, 2, 4])
    requests = cut(_cached(*_BATCHES[rng.choice(names)]))
    return Cell(
        test="attention_backends",
        tolerance=tolerances.VLLM_BACKENDS,
        mode=mode_of(requests),
        layer=layer_of(
            (16 if windowed else 32) // shards,
            (4 if windowed else 8) // shards,
            128,
            window=_WINDOW - 1 if windowed else -1,
        ),
        requests=requests,
        page_size=16,
        storage="interleaved",
        table="shuffled",
        dead="zero",
        null_page=True,
    )


def trtllm_integration(rng: random.Random) -> Cell:
    """tests/v1/attention/dense/test_trtllm_attention_integration.py, full attention."""
    total, new = rng.choice(
        [
            ((128, 256, 512), (1, 1, 1)),
            ((64, 128, 256), (16, 32, 16)),
            ((128, 256, 512, 128), (1, 1, 8, 16)),
        ]
    )
    requests = tuple(_cached(total, new))
    return Cell(
        test="trtllm_attention_integration",
        tolerance=tolerances.VLLM_BACKENDS,
        mode=mode_of(requests),
        layer=layer_of(14, 2, 64),
        requests=requests,
        page_size=16,
        kv_layout="HND",
        storage="interleaved",
        table="shuffled",
        dead="zero",
        null_page=True,
    )


GRIDS = (trtllm_decode, trtllm_prefill, unified, flashinfer_paged, backends, trtllm_integration)
