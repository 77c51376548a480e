"""The device that times, over a torch.cuda whose streams, graphs and events are simulated: all but the GPU itself."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from attnconf.platforms import Platform
from attnconf.running.bench import captured, cuda
from attnconf.running.bench.cuda import CudaDevice
from attnconf.running.bench.process import NotTimedError, measure
from attnconf.running.bench.readings import Readings
from attnconf.running.bench.timing import CudaTimer
from attnconf.running.bench.work import work
from conformance.tests.running.bench.test_bench import CASE, QUESTION

if TYPE_CHECKING:
    from collections.abc import Iterator

MILLISECONDS = 0.25


class Gpu:
    """A clock that replays of graphs move on: a launch takes a quarter of a millisecond, an idle cycle a nanosecond."""

    def __init__(self) -> None:
        self.now = 0.0
        self.capturing: Graph | None = None

    def work(self, milliseconds: float) -> None:
        if self.capturing is None:
            self.now += milliseconds
        else:
            self.capturing.milliseconds += milliseconds


class Graph:
    def __init__(self, gpu: Gpu) -> None:
        self.gpu, self.milliseconds, self.replays = gpu, 0.0, 0

    def replay(self) -> None:
        self.replays += 1
        self.gpu.now += self.milliseconds


class Event:
    def __init__(self, gpu: Gpu) -> None:
        self.gpu, self.at = gpu, 0.0

    def record(self) -> None:
        self.at = self.gpu.now

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, later: Event) -> float:
        return later.at - self.at


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    made = Gpu()

    @contextmanager
    def capture(graph: Graph) -> Iterator[None]:
        made.capturing = graph
        try:
            yield
        finally:
            made.capturing = None

    stream = SimpleNamespace(wait_stream=lambda _: None)
    properties = SimpleNamespace(L2_cache_size=1500, uuid="x")
    for name, value in {
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "stream": lambda _: nullcontext(),
        "synchronize": lambda *_: None,
        "CUDAGraph": lambda: Graph(made),
        "graph": capture,
        "current_device": lambda: 0,
        "get_device_properties": lambda _: properties,
        "mem_get_info": lambda _: (10**12, 10**12),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    for module in (captured, cuda):
        monkeypatch.setattr(module, "timed_event", lambda: Event(made))
        monkeypatch.setattr(module, "idle", lambda cycles: made.work(cycles * 1e-6))
    monkeypatch.setattr(cuda, "_COPIED_BYTES", 64)
    monkeypatch.setattr(cuda, "_MATRIX", 4)
    return made


def device(gpu: Gpu, monkeypatch: pytest.MonkeyPatch, planted: float = 0.0) -> CudaDevice:
    made = CudaDevice(Platform(), planted)
    made._device = torch.device("cpu")

    real = made.backend

    def backend(name: str) -> Any:  # noqa: ANN401 - a backend and its surroundings
        found, surroundings = real(name)
        if not isinstance(found, Slow):
            found = Slow(found, gpu)
        return found, surroundings

    monkeypatch.setattr(made, "backend", backend)
    monkeypatch.setattr(cuda, "_copied", lambda _: 1e12)
    monkeypatch.setattr(cuda, "_multiplied", lambda *_: 1e14)
    return made


class Slow:
    """A backend whose launches move the clock on."""

    def __init__(self, inner: Any, gpu: Gpu) -> None:  # noqa: ANN401 - a backend or a prepared batch
        self.inner, self.gpu = inner, gpu

    def prepare(self, batch: Any) -> Slow:  # noqa: ANN401 - a batch
        return Slow(self.inner.prepare(batch), self.gpu)

    def run(self, layer: int, out: torch.Tensor, lse: torch.Tensor | None) -> str:
        self.gpu.work(MILLISECONDS)
        name: str = self.inner.run(layer, out, lse)
        return name


def test_both_sides_are_captured_over_copies_beyond_l2(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    found = measure([QUESTION], device(gpu, monkeypatch), number=0, blocks=6, seed=0, seconds=99.0)
    assert found.left_out == {}
    answer = found.answers[0]
    moved = work(CASE, 0)[0]
    copies = -(-4 * 1500 // moved)
    assert copies > 1
    assert answer.bytes == copies * moved
    assert answer.launches == -(-16 // copies) * copies  # 4 ms of launches of 0.25 ms, a whole number of copies
    for block in (*answer.cold, *answer.warm, *answer.control):
        assert block.micros == pytest.approx((1000 * MILLISECONDS,) * 4)
    assert answer.kernels[0] != answer.kernels[1]
    assert min(answer.prepare_micros) > 0
    assert found.ceilings is not None
    assert found.process.unknown


def test_a_planted_slowdown_is_that_of_the_candidate_alone(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    found = measure([QUESTION], device(gpu, monkeypatch, 5.0), number=0, blocks=6, seed=0, seconds=99.0).answers[0]
    for block in (*found.cold, *found.warm):
        assert block.of("A") == pytest.approx((262.5, 262.5))
        assert block.of("B") == pytest.approx((250.0, 250.0))
    assert all(abs(block.log_ratio) < 1e-9 for block in found.control)


def test_what_cannot_be_timed_says_why(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    made = device(gpu, monkeypatch)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10, 10))
    with pytest.raises(NotTimedError, match=r"copies of its inputs, .* GB, do not fit"):
        made.pair(QUESTION)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10**12, 10**12))
    monkeypatch.setattr(Slow, "run", lambda *_: "nothing")
    with pytest.raises(NotTimedError, match="leaves outputs unwritten"):
        made.pair(QUESTION)
    properties = SimpleNamespace(L2_cache_size=10**9, uuid="")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    with pytest.raises(NotTimedError, match="128 copies of its inputs still fit L2"):
        made.pair(QUESTION)

    def refuse(*_: object) -> str:
        if gpu.capturing is not None:
            raise RuntimeError("operation not permitted when stream is capturing")
        return "k"

    monkeypatch.setattr(Slow, "run", refuse)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(L2_cache_size=1500, uuid=""))
    with pytest.raises(
        NotTimedError, match="cannot be captured in a CUDA graph: RuntimeError: operation not permitted"
    ):
        made.pair(QUESTION)


def test_a_clock_of_events_adds_up_what_lies_between_them(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnconf.running.bench.timing.timed_event", lambda: Event(gpu))
    clock = CudaTimer()
    start = clock()
    gpu.work(3.0)
    assert clock() - start == pytest.approx(0.003)
    gpu.work(1.5)
    assert clock() - start == pytest.approx(0.0045)


def test_readings_keep_the_extremes_and_every_reason() -> None:
    states = iter([(1980, 0x4 | 0x1), (1200, 0x40), (1900, 0)])

    class Nvml:
        NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
        NVMLError = OSError

        def __init__(self) -> None:
            self.state = (0, 0)

        def nvmlDeviceGetClockInfo(self, _: object, kind: int) -> int:  # noqa: N802 - NVML's own names
            if kind == self.NVML_CLOCK_SM:
                self.state = next(states)
            return self.state[0] if kind == self.NVML_CLOCK_SM else 3201

        def nvmlDeviceGetCurrentClocksThrottleReasons(self, _: object) -> int:  # noqa: N802
            return self.state[1]

        def nvmlDeviceGetPowerUsage(self, _: object) -> int:  # noqa: N802
            return 480_500

        def nvmlDeviceGetTemperature(self, *_: object) -> int:  # noqa: N802
            return 54

    readings = Readings(_nvml=Nvml(), _handle=object())
    assert readings.clocks() is None
    for _ in range(24):
        readings.take()
    found = readings.clocks()
    assert found is not None
    assert (found.readings, found.sm_mhz, found.memory_mhz) == (3, (1200, 1980), (3201, 3201))
    assert (found.watts, found.celsius) == (480.5, 54)
    assert found.throttled == ("software power cap", "hardware thermal")
