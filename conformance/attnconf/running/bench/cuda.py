"""CUDA: the device that times launches, with events around replays of graphs."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

import torch

from attnconf.backends.registry import Registry
from attnconf.gate.speeds.speed_receipt import Ceilings, Process
from attnconf.judging.device_memory import release_cached_memory
from attnconf.judging.posed import PosedCase
from attnconf.judging.surroundings import Surroundings
from attnconf.running.bench.captured import idle, launcher, timed_event
from attnconf.running.bench.process import NotTimedError, Pair
from attnconf.running.bench.readings import Readings
from attnconf.running.bench.work import work

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from attnconf.backends.protocol import Backend
    from attnconf.cases.case import Case
    from attnconf.cases.inputs.batch import Batch
    from attnconf.platforms import Platform
    from attnconf.running.bench.captured import Captured, Launcher
    from attnconf.running.bench.questions import Question

_OVER_L2 = 4
"""Cold launches go over so many times the size of L2."""

_MOST_COPIES = 128
_LAUNCHES = 20
_GRAPH_MICROS = 4000.0
"""A graph has so many launches, or as many as take so long, and one for each copy of the inputs at least."""

_FREE_SHARE = 0.4
"""The share of free memory that copies of the inputs may take."""

_COPIED_BYTES = 2**30
_MATRIX = 8192
_REPEATS = 10


class CudaDevice:
    """One GPU, and the backends on it. ``planted`` slows every candidate by so many percent, to try the statistics."""

    def __init__(self, platform: Platform, planted: float = 0.0) -> None:
        torch.set_num_threads(1)
        self._platform, self._planted = platform, planted
        self._device = torch.device("cuda", torch.cuda.current_device())
        self._registry = Registry()
        self._backends: dict[str, tuple[Backend, Surroundings]] = {}
        self._readings = Readings.of(self._device)

    @property
    def l2_bytes(self) -> int:
        """The size of its L2 cache in bytes."""
        return int(torch.cuda.get_device_properties(self._device).L2_cache_size)

    def process(self, seconds: float) -> Process:
        """Return the clocks of this process, or why they are unknown."""
        clocks = self._readings.clocks()
        return Process(seconds=round(seconds, 3), clocks=clocks, unknown="" if clocks else self._readings.unknown)

    def release(self) -> None:
        """Give back the memory of the last pair."""
        release_cached_memory(self._device)

    def ceilings(self, dtypes: Sequence[str]) -> Ceilings:
        """Measure a copy of 1 GiB, and the product of two square matrices of 8,192 rows in each dtype."""
        moved = _copied(self._device)
        computed = {name: _multiplied(self._device, getattr(torch, name)) for name in dtypes}
        self.release()
        return Ceilings(bytes=moved, operations=computed)

    def pair(self, question: Question) -> Pair:
        """Make both sides ready over the same copies of the inputs, and the candidate a second time."""
        batches = self._copies(question.case, question.layer)
        sides = [self._launcher(name, batches, question.layer) for name in (question.candidate, question.baseline)]
        sides.append(self._launcher(question.candidate, batches, question.layer))
        copies = len(batches)
        micros = [one.capture(copies, copies).timed(self._readings.take)() for one in sides[:2]]
        most = max(1, min(_LAUNCHES, round(_GRAPH_MICROS / max(micros))))
        launches = math.ceil(most / copies) * copies
        sleep = self._cycles(micros[0] * self._planted / 100)
        a, b, again = (
            one.capture(launches, copies, 0 if one is sides[1] else sleep).timed(self._readings.take) for one in sides
        )
        warm = tuple(
            one.capture(launches, 1, 0 if one is sides[1] else sleep).timed(self._readings.take) for one in sides[:2]
        )
        return Pair(
            cold=(a, b),
            warm=(warm[0], warm[1]),
            again=again,
            kernels=(sides[0].kernel, sides[1].kernel),
            prepare_micros=(round(sides[0].prepare_micros, 3), round(sides[1].prepare_micros, 3)),
            launches=launches,
            bytes=copies * work(question.case, question.layer)[0],
        )

    def side(self, case: Case, layer: int, name: str) -> Captured:
        """Capture one backend alone, cold."""
        batches = self._copies(case, layer)
        copies = len(batches)
        ready = self._launcher(name, batches, layer)
        once = ready.capture(copies, copies).timed(self._readings.take)()
        most = max(1, min(_LAUNCHES, round(_GRAPH_MICROS / once)))
        return ready.capture(math.ceil(most / copies) * copies, copies)

    def backend(self, name: str) -> tuple[Backend, Surroundings]:
        """Return a backend, made once, and its surroundings. Raises what making it raises."""
        if name not in self._backends:
            surroundings = Surroundings()
            with surroundings.of_process():
                self._backends[name] = (self._registry.make(name, self._platform), surroundings)
        return self._backends[name]

    def _launcher(self, name: str, batches: Sequence[Batch], layer: int) -> Launcher:
        backend, surroundings = self.backend(name)
        return launcher(backend, batches, layer, surroundings)

    def _copies(self, case: Case, layer: int) -> list[Batch]:
        """Return copies of the inputs, so many that the bytes that launches touch exceed L2 several times."""
        touched = work(case, layer)[0]
        wanted = min(_MOST_COPIES, max(1, math.ceil(_OVER_L2 * self.l2_bytes / touched)))
        if wanted * touched <= self.l2_bytes:
            message = f"a launch touches {touched} bytes: {wanted} copies of its inputs still fit L2, so none is cold"
            raise NotTimedError(message)
        posed = PosedCase(case, self._device)
        batches = [posed.fresh_batch()]
        size = sum(whole.numel() for _, whole in batches[0].memory())
        free, _ = torch.cuda.mem_get_info(self._device)
        if (wanted - 1) * size > _FREE_SHARE * free:
            message = (
                f"{wanted} copies of its inputs, {wanted * size / 1e9:.1f} GB, do not fit beside what is in memory"
            )
            raise NotTimedError(message)
        return batches + [posed.fresh_batch() for _ in range(wanted - 1)]

    def _cycles(self, micros: float) -> int:
        """Return how many cycles of ``idle`` last ``micros``."""
        if micros <= 0:
            return 0
        cycles = 10**6
        seconds = _seconds(lambda: idle(cycles))
        return max(1, round(cycles * micros / (1e6 * seconds)))


def _copied(device: torch.device) -> float:
    """Return the bytes a second that a copy reads and writes."""
    source = torch.empty(_COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * _COPIED_BYTES / _seconds(lambda: target.copy_(source))


def _multiplied(device: torch.device, dtype: torch.dtype) -> float:
    """Return the operations a second of a product of two matrices."""
    left, right = (torch.randn((_MATRIX, _MATRIX), device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(left)
    return 2 * _MATRIX**3 / _seconds(lambda: torch.mm(left, right, out=product))


def _seconds(what: Callable[[], object]) -> float:
    """Return the median seconds of ``what`` on the device, by events around each of some runs."""
    found = []
    for _ in range(_REPEATS + 2):
        start, stop = timed_event(), timed_event()
        start.record()
        what()
        stop.record()
        stop.synchronize()
        found.append(float(start.elapsed_time(stop)) / 1000)
    return statistics.median(found[2:])
