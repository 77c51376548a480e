"""Captured: the launches of one side in a CUDA graph, so that the host's work is no part of their time."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from attnconf.cases.inputs.target import make_target
from attnconf.errors import one_line
from attnconf.running.bench.process import NotTimedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from attnconf.backends.protocol import Backend, Prepared
    from attnconf.cases.inputs.batch import Batch
    from attnconf.cases.inputs.target import Target
    from attnconf.judging.surroundings import Surroundings

_WARM_UPS = 3
"""Launches before a capture: kernels are compiled and loaded, plans made, workspaces grown."""

_SAMPLE_MICROS = 2000.0
"""How long a timed row of launches lasts at least: events resolve half a microsecond."""


def timed_event() -> torch.cuda.Event:
    """Return an event whose time can be asked."""
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def idle(cycles: int) -> None:
    """Launch a kernel that does nothing for so many cycles."""
    torch.cuda._sleep(cycles)  # type: ignore[no-untyped-call]  # noqa: SLF001 - torch has no public one


@dataclass(frozen=True)
class Captured:
    """A graph of ``launches`` launches, the kernel that an eager one ran, and the host's time from a batch to it.

    A graph owns none of the memory that it reads and writes, so ``launcher`` is held here, which does.
    """

    graph: torch.cuda.CUDAGraph
    launches: int
    kernel: str
    prepare_micros: float
    launcher: Launcher

    def timed(self, read: Callable[[], None]) -> Callable[[], float]:
        """Return a function that replays it and returns the microseconds of one launch; ``read`` is called meanwhile.

        Each time one replay goes ahead untimed, so that caches and clocks are those of this side.
        """
        start, stop = timed_event(), timed_event()

        def row(replays: int) -> float:
            self.graph.replay()
            start.record()
            for _ in range(replays):
                self.graph.replay()
            stop.record()
            read()
            stop.synchronize()
            return 1000 * float(start.elapsed_time(stop)) / (replays * self.launches)

        once = max(row(1), 1e-3) * self.launches
        replays = max(1, round(_SAMPLE_MICROS / once))
        return lambda: row(replays)


@dataclass(frozen=True)
class Launcher:
    """One layer of one backend over copies of its inputs, made ready to be captured."""

    prepared: Sequence[Prepared]
    targets: Sequence[Target]
    layer: int
    kernel: str
    prepare_micros: float
    surroundings: Surroundings

    def capture(self, launches: int, copies: int, sleep: int = 0) -> Captured:
        """Capture ``launches`` over the first ``copies``, each followed by ``sleep`` idle cycles.

        Raises ``NotTimedError`` where a capture fails, or a replay leaves an output unwritten.
        """
        targets = self.targets[:copies]
        for target in targets:
            target.reset()
        graph = torch.cuda.CUDAGraph()
        try:
            with self.surroundings.of_torch(), torch.cuda.graph(graph):
                for number in range(launches):
                    self.prepared[number % copies].run(self.layer, targets[number % copies].out, None)
                    if sleep:
                        idle(sleep)
        except Exception as error:
            message = f"its launch cannot be captured in a CUDA graph: {one_line(error)}"
            raise NotTimedError(message) from error
        graph.replay()
        torch.cuda.synchronize()
        if any(target.unwritten for target in targets):
            message = "a replay of its graph leaves outputs unwritten, so it does not time the whole kernel"
            raise NotTimedError(message)
        return Captured(graph, launches, self.kernel, self.prepare_micros, self)


def launcher(backend: Backend, batches: Sequence[Batch], layer: int, surroundings: Surroundings) -> Launcher:
    """Prepare each batch and launch it some times. Raises what the backend raises."""
    prepared, targets, host = [], [], []
    kernel = ""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with surroundings.of_torch(), torch.cuda.stream(stream):
        for batch in batches:
            target = make_target(batch, layer, lse=False)
            started = time.perf_counter()
            ready = backend.prepare(batch)
            kernel = ready.run(layer, target.out, None)
            host.append(1e6 * (time.perf_counter() - started))
            for _ in range(_WARM_UPS - 1):
                ready.run(layer, target.out, None)
            prepared.append(ready)
            targets.append(target)
        for _ in range(_WARM_UPS):  # the first ones compile and load
            started = time.perf_counter()
            backend.prepare(batches[0]).run(layer, targets[0].out, None)
            host.append(1e6 * (time.perf_counter() - started))
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    return Launcher(prepared, targets, layer, kernel, statistics.median(host[1:]), surroundings)
