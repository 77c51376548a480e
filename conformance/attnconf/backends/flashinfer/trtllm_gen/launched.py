"""Launched: the names of the trtllm-gen kernels that a call really launches, as CUPTI reports them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_PREFIX = "fmhaSm"
"""How the names of the list begin; those of reduction kernels beside them do not."""


def launched(call: Callable[[], object]) -> tuple[str, ...]:
    """Run ``call``, and return the trtllm-gen kernels that it launched, each once in their order.

    Nothing is returned where nothing is seen: in the capture of a CUDA graph, or where CUPTI is in use by another tool.
    """
    if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
        call()
        return ()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    return of_the_list(event.name for event in profiler.events() or ())


def of_the_list(names: Iterable[str]) -> tuple[str, ...]:
    """Return those of ``names`` that are trtllm-gen's, each once in their order."""
    return tuple(dict.fromkeys(name for name in names if name.startswith(_PREFIX)))
