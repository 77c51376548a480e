"""Sizes: what of judging is small, and how much is made at once; known before a tensor is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnconf.cases.case import Case

HOST_WORK = 2**20
"""Multiplications of a product of queries and keys up to which answers are judged on the CPU.

The mistakes of a case take some fifty answers per request. A small one takes a millisecond on a CPU, and no less on a
GPU, which starts one operation at a time.
"""

MOST_BYTES = 2**29
"""Bytes of mistaken keys and values, or answers, that are made at once, if they are more than those of one mistake."""

CLAIMED_MISTAKES = 78
"""How many mistakes are claimed: ``search.CLAIMED``, whose answers are tensors."""


def work(case: Case) -> int:
    """Return the multiplications of the largest product of queries and keys of one request."""
    rows = max(request.new_tokens * request.kv_len for request in case.requests)
    return rows * max(layer.num_qo_heads * layer.head_dim for layer in case.layers)
