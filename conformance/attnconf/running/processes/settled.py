"""Settled: a process that judges computes on one thread, and keeps what it has freed."""

from __future__ import annotations

import torch

from attnconf.running.processes.freed import keep_freed_memory


def settle() -> None:
    """Let this process judge.

    Cases are many and small: a pool of threads an operation costs more than it gives, and starves its neighbours.
    """
    torch.set_num_threads(1)
    keep_freed_memory()
