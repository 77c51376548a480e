"""sglang's tests of paged attention: the kit of its backends (wheel 0.5.23), and its Triton kernels.

The kit projects noise to Q, K and V by linear layers as PyTorch initialises them, and compares behind another one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ci.benchmarks.peerstyles import tolerances
from ci.benchmarks.peerstyles.cell import Cell, cut, layer_of, mode_of

if TYPE_CHECKING:
    import random

    from ci.benchmarks.peerstyles.cell import Table

# page size, query heads, KV heads, (cached, new) tokens
_DENSE = (
    (1, 4, 4, ((2, 3), (4, 1))),
    (16, 4, 4, ((0, 16),)),
    (16, 4, 4, ((0, 15), (0, 16), (0, 17))),
    (16, 4, 4, ((16, 2),)),
    (16, 4, 4, ((8, 8),)),
    (16, 4, 4, ((15, 2),)),
    (16, 4, 4, ((0, 15), (8, 8), (16, 1))),
    (32, 4, 4, ((31, 2),)),
    (16, 4, 4, ((14, 1), (15, 1), (16, 1))),
    (16, 4, 4, ((7, 1),)),
    (16, 4, 2, ((14, 1), (15, 1), (16, 1))),
    (16, 4, 1, ((8, 8),)),
)
_TRTLLM_MHA = (
    (16, 4, 4, ((14, 1), (15, 1), (16, 1))),
    (16, 4, 2, ((14, 1), (15, 1), (16, 1))),
    (16, 4, 1, ((7, 1),)),
    (32, 4, 4, ((31, 1), (32, 1))),
    (128, 4, 2, ((127, 1), (128, 1), (200, 1))),
    (128, 8, 2, ((300, 1),)),
    (128, 4, 2, ((0, 130), (128, 5))),
)
_SWA = (
    (4, ((0, 3), (0, 4), (0, 5))),
    (4, ((3, 2), (4, 2), (5, 2))),
    (4, ((1, 1), (2, 1), (3, 1))),
    (4, ((7, 1), (8, 1), (9, 1))),
    (12, ((8, 8), (16, 16))),
    (12, ((15, 1), (16, 1), (17, 1))),
)
_LAYOUTS: list[Table] = ["identity", "shuffled within requests", "shuffled"]


def _kit(  # noqa: PLR0913 - what the kit's cases differ in
    test: str,
    rng: random.Random,
    page_size: int,
    heads: tuple[int, int],
    requests: tuple[tuple[int, int], ...],
    head_dim: int,
    window: int = -1,
) -> Cell:
    return Cell(
        test=test,
        tolerance=tolerances.SGLANG_KIT,
        mode=mode_of(requests),
        layer=layer_of(*heads, head_dim, window=window),
        requests=requests,
        page_size=page_size,
        q_dtype="float16",
        kv_dtype="float16",
        table=rng.choice(_LAYOUTS),
        dead="zero",
        null_page=True,
        inputs="projected",
        hidden=4 * head_dim,
    )


def kit_dense(rng: random.Random) -> Cell:
    """attention_unittest: make_dense_cases, in all page layouts."""
    page_size, q_heads, kv_heads, requests = rng.choice(_DENSE)
    return _kit("kit_dense", rng, page_size, (q_heads, kv_heads), requests, rng.choice([16, 64]))


def kit_trtllm_mha(rng: random.Random) -> Cell:
    """attention_unittest: the cases of trtllm_mha."""
    page_size, q_heads, kv_heads, requests = rng.choice(_TRTLLM_MHA)
    return _kit("kit_trtllm_mha", rng, page_size, (q_heads, kv_heads), requests, 64)


def kit_swa(rng: random.Random) -> Cell:
    """attention_unittest: windows of 4 and 12 keys beside the query's own."""
    window, requests = rng.choice(_SWA)
    return _kit("kit_swa", rng, 16, (4, 4), requests, 16, window)


def triton_extend(rng: random.Random) -> Cell:
    """test_triton_attention_kernels.py::test_extend_attention: lengths up to half of 12,331, K and V around 0.1."""
    lengths = [(rng.randint(1, 6165), rng.randint(1, 6165)) for _ in range(4)]
    return Cell(
        test="triton_extend",
        tolerance=tolerances.SGLANG_EXTEND,
        mode="extend",
        layer=layer_of(12, 4, rng.choice([256, 128, 96, 80, 13])),
        requests=cut(lengths),
        page_size=1,
        mean=0.1,
        spread=0.2,
    )


def triton_extend_window(rng: random.Random) -> Cell:
    """test_triton_attention_kernels.py::test_extend_attention_sliding_window."""
    lengths = [(rng.randint(1, 1000), rng.randint(1, 100)) for _ in range(4)]
    return Cell(
        test="triton_extend_sliding_window",
        tolerance=tolerances.SGLANG_EXTEND_WINDOW,
        mode="extend",
        layer=layer_of(64, 8, 128, window=rng.choice([-1, 127])),
        requests=cut(lengths),
        page_size=1,
        mean=0.1,
        spread=0.2,
    )


def triton_decode(rng: random.Random) -> Cell:
    """test_triton_attention_kernels.py::test_decode_attention and test_grouped_decode_attention."""
    if rng.choice([True, False]):
        heads, head_dim = rng.choice([((4, 4), 64), ((4, 2), 64), ((4, 4), 80), ((4, 4), 13)])
        length, tolerance = 10, tolerances.SGLANG_DECODE
    else:
        heads, head_dim = rng.choice([((16, 16), 64), ((16, 1), 64), ((64, 1), 13), ((128, 1), 80), ((128, 2), 512)])
        length, tolerance = rng.choice([5, 100, 128, 500]), tolerances.SGLANG_GROUPED
    return Cell(
        test="triton_decode",
        tolerance=tolerance,
        mode="decode",
        layer=layer_of(*heads, head_dim),
        requests=((length - 1, 1),) * 2,
        page_size=1,
    )


def xqa_spec_decode(rng: random.Random) -> Cell:
    """test_trtllm_mha_xqa_spec_decode.py: two requests share two pages of 64."""
    new = rng.choice([2, 3])
    return Cell(
        test="trtllm_mha_xqa_spec_decode",
        tolerance=tolerances.SGLANG_SPEC,
        mode="verify",
        layer=layer_of(8, 2, 128),
        requests=((193 - new, new), (257 - new, new)),
        page_size=64,
        kv_layout="HND",
        kv_dtype="float8_e4m3fn",
        dead="zero",
        shared_pages=2,
    )


GRIDS = (kit_dense, kit_trtllm_mha, kit_swa, triton_extend, triton_extend_window, triton_decode, xqa_spec_decode)
