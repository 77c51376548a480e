"""Features: what a case can be about, and what evidence counts by."""

from __future__ import annotations

from typing import Literal

Feature = Literal[
    "causal",
    "gqa",
    "host_hints",
    "hybrid",
    "k_scale",
    "kv_len",
    "layout",
    "page_tail",
    "paging",
    "prefix",
    "shared_kv",
    "shared_prefix",
    "sinks",
    "sm_scale",
    "soft_cap",
    "table_tail",
    "v_scale",
    "window",
]
"""The features that a case can show: each has mistakes that claim it (``judging/mistakes``), and no other name has."""
