"""Limits of a block: known without a tensor, to whoever estimates memory."""

from __future__ import annotations

MOST_SCORES = {"cpu": 2**21, "cuda": 2**24}
"""Scores of a block by the type of its device; on a GPU one temporary of them takes 128 MiB."""

MOST_KEYS = {"cpu": 2**22, "cuda": 2**26}
"""Elements of a block's keys, 512 MiB of float64 on a GPU, and of its values. One KV head of one part may exceed it."""

SMALL = {"cpu": 2**14, "cuda": 2**22}
"""Elements of keys and scores up to which a part is stacked with shorter ones: starting an operation costs more."""
