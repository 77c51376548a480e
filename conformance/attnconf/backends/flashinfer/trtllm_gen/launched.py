"""Launched: the names of the trtllm-gen kernels that a call really launches, as CUPTI reports them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_PREFIX = "fmhaSm"
"""How the names of the list begin; those of reduction kernels beside them do not."""


def launched(call: Callable[[], object]) -> tuple[str, ...]:
    """Run ``call``, and return the trtllm-gen kernels that it launched, each once in their order.

    Nothing is returned where nothing is seen: without a GPU, in the capture of a CUDA graph, or where another tool has
    CUPTI.
    """
    if not torch.cuda.is_available() or torch.cuda.is_current_stream_capturing():
        call()
        return ()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a profiler that sees nothing warns; the launch then has its family's name
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
            call()
            torch.cuda.synchronize()
        seen = [event.name for event in profiler.events() or ()]
    return of_the_list(seen)


def of_the_list(names: Iterable[str]) -> tuple[str, ...]:
    """Return those of ``names`` that are trtllm-gen's, each once in their order."""
    return tuple(dict.fromkeys(name for name in names if name.startswith(_PREFIX)))
