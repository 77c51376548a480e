"""Timing: one layer of one backend in a CUDA graph, with a clock of CUDA events, for a benchmark of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attnconf.running.bench.captured import timed_event
from attnconf.running.bench.cuda import CudaDevice
from attnconf.running.bench.work import work

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from attnconf.cases.case import Case
    from attnconf.platforms import Platform


class CudaTimer:
    """A clock in seconds whose ticks are CUDA events: what lies between two of them is what the GPU took.

    It adds up what lies between its own ticks, since an event's time is a float32 of milliseconds.
    """

    __name__ = "cuda_events"

    def __init__(self) -> None:
        self._last: torch.cuda.Event | None = None
        self._seconds = 0.0

    def __call__(self) -> float:
        """Wait for the GPU and return its time."""
        event = timed_event()
        event.record()
        event.synchronize()
        if self._last is not None:
            self._seconds += float(self._last.elapsed_time(event)) / 1000
        self._last = event
        return self._seconds


@dataclass(frozen=True)
class Timing:
    """What a benchmark repeats, and what its results are to say beside the times."""

    replay: Callable[[], None]
    info: dict[str, Any]


def time_case(case: Case, layer: int, backend: str, platform: Platform) -> Timing:
    """Capture ``layer`` of ``case`` on ``backend``, over copies of its inputs that exceed L2.

    Raises ``NotTimedError`` for what cannot be captured, and what the backend raises.
    """
    side = CudaDevice(platform).side(case, layer, backend)
    moved, computed = work(case, layer)
    info = {
        "case": case.id,
        "backend": backend,
        "kernel": side.kernel,
        "launches": side.launches,
        "bytes": moved,
        "operations": computed,
        "prepare_micros": round(side.prepare_micros, 3),
    }
    return Timing(side.graph.replay, info)
