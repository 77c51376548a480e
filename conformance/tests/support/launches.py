"""Launches for tests of trtllm-gen's selection: one that every release has, with whatever a test is about changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from attnconf.backends.flashinfer.trtllm_gen.question import Question

_PLAIN = Question(
    context=False,
    q_dtype="BF16",
    kv_dtype="BF16",
    o_dtype="BF16",
    num_qo_heads=16,
    num_kv_heads=8,
    head_dim=256,
    page_size=16,
    num_requests=1,
    max_q_len=1,
    max_kv_len=900,
    window_left=-1,
    multiprocessors=148,
)


def a_launch(**changes: Any) -> Question:  # noqa: ANN401 - any field
    """Return a decode of one request of 900 keys on a B200, with ``changes``."""
    return replace(_PLAIN, **changes)
