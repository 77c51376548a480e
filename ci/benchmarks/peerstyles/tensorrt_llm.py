"""TensorRT-LLM's attention harness, NVIDIA/TensorRT-LLM tests/unittest/_torch/attention at 2026-09.

test_attention_backends.py asks the configurations of its models in three batches, whose longest request is 17 tokens
longer than the window. Rotated noise is noise, so RoPE is left out; so are MLA, cross attention and masks that are not
causal. Its own mapping of a window W to keys is ``window_left`` W - 1, as models mean it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ci.benchmarks.peerstyles import tolerances
from ci.benchmarks.peerstyles.cell import Cell, layer_of, mode_of

if TYPE_CHECKING:
    import random

    from attnconf.cases.dtypes import KVDtype
    from ci.benchmarks.peerstyles.cell import Tolerance

_NOMINAL = 1024
# query heads, KV heads, head_dim, window: the dense configurations of model_configs.py up to 64 query heads
_MODELS = (
    (32, 8, 128, 0), (64, 8, 128, 0), (40, 8, 128, 0), (32, 8, 64, 0), (24, 8, 128, 0), (48, 8, 128, 0),
    (28, 4, 128, 0), (14, 2, 64, 0), (12, 2, 128, 0), (16, 2, 128, 0), (16, 8, 128, 0), (32, 4, 128, 0),
    (64, 4, 128, 0), (32, 4, 64, 0), (32, 2, 128, 0), (64, 2, 128, 0), (16, 2, 256, 0), (24, 4, 256, 0),
    (32, 2, 256, 0), (32, 32, 128, 0), (20, 20, 128, 0), (40, 40, 128, 0), (52, 52, 128, 0), (64, 64, 128, 0),
    (16, 16, 64, 0), (16, 16, 128, 0), (32, 32, 96, 0), (40, 10, 128, 0), (32, 32, 64, 0), (64, 8, 64, 0),
    (6, 6, 64, 0), (8, 8, 64, 0), (12, 12, 64, 0), (4, 1, 256, 0), (16, 8, 256, 0), (32, 16, 128, 0),
    (8, 1, 512, 0), (16, 2, 512, 0), (32, 4, 512, 0), (32, 8, 128, 4096), (64, 8, 64, 128), (40, 8, 128, 4096),
    (64, 8, 128, 128), (64, 8, 128, 512), (24, 2, 128, 4096), (36, 4, 128, 4096), (48, 4, 128, 4096),
    (4, 1, 256, 512), (16, 8, 256, 1024), (32, 16, 128, 1024), (8, 1, 256, 512), (32, 16, 256, 1024),
)  # fmt: skip


def harness(rng: random.Random) -> Cell:
    """test_attention_backends.py: a model, a batch of prompts, of decodes or of both, bf16, fp16 or fp8 KV."""
    q_heads, kv_heads, head_dim, window = rng.choice(_MODELS)
    longest = (window or _NOMINAL) + 17
    requests = rng.choice(
        [
            ((0, longest), (0, 73), (0, 41)),
            ((longest, 1), (73, 1), (41, 1)),
            ((0, longest), (longest, 1), (73, 1)),
        ]
    )
    precisions: list[tuple[KVDtype, Tolerance]] = [
        ("bfloat16", tolerances.TENSORRT_BF16),
        ("float8_e4m3fn", tolerances.TENSORRT_FP8),
        ("float16", tolerances.TENSORRT_FP16),
    ]
    precision, tolerance = rng.choice(precisions)
    return Cell(
        test="attention_backends",
        tolerance=tolerance,
        mode=mode_of(requests),
        layer=layer_of(q_heads, kv_heads, head_dim, window=window - 1),
        requests=requests,
        page_size=rng.choice([32, 64]),
        kv_layout=rng.choice(["HND", "NHD"]),
        storage="interleaved",
        q_dtype="float16" if precision == "float16" else "bfloat16",
        kv_dtype=precision,
        dead="zero",
        exact_golden=True,
    )


GRIDS = (harness,)
