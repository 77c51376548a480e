"""Kernel shapes for tests: one that every library's kernels know, with whatever a test is about changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from attnconf.cases.dtypes import FP8
from attnconf.cases.shape import KernelShape

_PLAIN = KernelShape(
    mode="decode",
    q_dtype="bfloat16",
    kv_dtype="bfloat16",
    out_dtype="bfloat16",
    head_dim=256,
    head_dim_v=256,
    num_qo_heads=32,
    num_kv_heads=16,
    page_size=16,
    kv_layout="HND",
    storage="apart",
    max_q_len=1,
    windowed=False,
    soft_cap=False,
    sinks=False,
    spans=False,
    ragged=False,
    bidirectional=False,
    head_scales=False,
    tree=False,
    chunked=False,
)


def a_shape(**changes: Any) -> KernelShape:  # noqa: ANN401 - any field
    """Return a decode of Gemma's sizes in 16 bits, without any feature, with ``changes``.

    The answer has the query's dtype, if nothing else is said, and 16 bits under an 8-bit query; values are as wide as
    keys.
    """
    q_dtype = changes.get("q_dtype", _PLAIN.q_dtype)
    answer = "bfloat16" if q_dtype == FP8 else q_dtype
    width = changes.get("head_dim", _PLAIN.head_dim)
    return replace(_PLAIN, **{"out_dtype": answer, "head_dim_v": width, **changes})
