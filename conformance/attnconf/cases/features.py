"""Features: what a case can test, and what receipts count."""

from __future__ import annotations

from typing import Literal

Feature = Literal[
    "bidirectional",
    "block_scales",
    "causal",
    "chunk",
    "gqa",
    "head_dim_v",
    "head_scales",
    "host_hints",
    "hybrid",
    "k_scale",
    "kv_format",
    "kv_len",
    "layout",
    "out_scale",
    "page_tail",
    "paging",
    "prefix",
    "q_scale",
    "ragged",
    "q_strides",
    "shared_kv",
    "shared_prefix",
    "sinks",
    "slack_rows",
    "sm_scale",
    "soft_cap",
    "spans",
    "table_strides",
    "table_tail",
    "tree",
    "v_scale",
    "window",
]
"""Every feature that a case can test. Each is claimed by some mistake (``judging/mistakes``)."""
