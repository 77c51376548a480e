"""A grid of 30,240 launches on the SM100 family, and what FlashInfer's own compiled selector answers to each."""

from __future__ import annotations

import json
import lzma
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.backends.flashinfer.trtllm_gen.question import Question

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RELEASE = "0.6.13"
RECORDED = Path(__file__).parent / "selector_answers.json.xz"
"""Written by ``make trtllm-gen``."""

MULTIPROCESSORS = (148, 152)
DTYPES = (
    ("BF16", "BF16", "BF16"),
    ("FP16", "FP16", "FP16"),
    ("BF16", "E4M3", "BF16"),
    ("E4M3", "E4M3", "BF16"),
    ("E4M3", "E4M3", "E4M3"),
)
MODES = (("decode", 1), *(("verify", q_len) for q_len in (2, 4, 5, 8, 16)), ("extend", 24), ("extend", 2048))
HEAD_DIMS = (64, 80, 128, 192, 256, 512)
GROUPS = (1, 2, 4, 8, 16, 32)
PAGE_SIZES = (8, 16, 32, 64, 128, 256, 1024)
WINDOWS = (-1, 127, 1023)
LAUNCHES = tuple(product((1, 3, 64, 256), (40, 700, 40_000)))
"""Numbers of requests and host hints, which take turns over the grid."""


def questions() -> Iterator[Question]:
    """Yield each launch of the grid for each number of SMs."""
    grid = product(MODES, DTYPES, HEAD_DIMS, GROUPS, PAGE_SIZES, WINDOWS)
    for index, ((mode, q_len), dtypes, head_dim, group, page_size, window_left) in enumerate(grid):
        requests, hint = LAUNCHES[index % len(LAUNCHES)]
        for multiprocessors in MULTIPROCESSORS:
            yield Question(
                context=mode == "extend",
                q_dtype=dtypes[0],
                kv_dtype=dtypes[1],
                o_dtype=dtypes[2],
                num_qo_heads=2 * group,
                num_kv_heads=2,
                head_dim=head_dim,
                page_size=page_size,
                num_requests=requests,
                max_q_len=q_len,
                max_kv_len=max(hint, q_len),
                window_left=window_left,
                multiprocessors=multiprocessors,
            )


def write(answers: Sequence[tuple[str, ...]], path: Path = RECORDED) -> None:
    """Record the names that FlashInfer's own selector gave, in the order of the questions."""
    names = sorted({name for answer in answers for name in answer})
    place = {name: index for index, name in enumerate(names)}
    data = {"names": names, "answers": [[place[name] for name in answer] for answer in answers]}
    text = json.dumps(data, separators=(",", ":")).encode()
    path.write_bytes(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))


def read(path: Path = RECORDED) -> list[tuple[str, ...]]:
    """Return the recorded names, in the order of the questions."""
    data = json.loads(lzma.decompress(path.read_bytes()))
    return [tuple(data["names"][index] for index in answer) for answer in data["answers"]]
