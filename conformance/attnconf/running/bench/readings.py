"""Readings: what NVML says of the clocks and the throttling of the GPU that this process measures on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from attnconf.errors import one_line
from attnconf.gate.speeds.speed_receipt import Clocks

if TYPE_CHECKING:
    import torch

REASONS = (
    (0x1, "idle"),
    (0x2, "application clocks"),
    (0x4, "software power cap"),
    (0x8, "hardware slowdown"),
    (0x10, "sync boost"),
    (0x20, "software thermal"),
    (0x40, "hardware thermal"),
    (0x80, "power brake"),
    (0x100, "display clocks"),
)
"""Bits of ``nvmlClocksThrottleReasons`` of nvml.h, in the words of ``speed_receipt.HARMFUL``."""

_ONE_IN = 8
"""A reading takes about as long as what is timed."""

_REMEDY = 'NVML cannot be asked without nvidia-ml-py; pip install "attnconf[speed]"'


@dataclass
class Readings:
    """The readings of one process. ``unknown`` says why there can be none; what fails later is left out."""

    unknown: str = ""
    _nvml: Any = None
    _handle: Any = None
    _calls: int = 0
    _seen: list[tuple[int, int, int, float, int]] = field(default_factory=list)

    @classmethod
    def of(cls, device: torch.device) -> Readings:
        """Return readings of ``device``; they cannot be taken where NVML is missing or does not know it."""
        try:
            import pynvml
        except ImportError:
            return cls(unknown=_REMEDY)
        try:
            pynvml.nvmlInit()
            return cls(_nvml=pynvml, _handle=_handle(pynvml, device))
        except pynvml.NVMLError as error:
            return cls(unknown=one_line(error))

    def take(self) -> None:
        """Read at one of some calls, best made while the GPU works: what is idle has other clocks."""
        self._calls += 1
        if self._nvml is None or self._calls % _ONE_IN:
            return
        nvml, handle = self._nvml, self._handle
        try:
            sm = int(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))
            memory = int(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM))
            reasons = int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
            watts = float(nvml.nvmlDeviceGetPowerUsage(handle)) / 1000
            celsius = int(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
        except nvml.NVMLError as error:
            self.unknown = self.unknown or one_line(error)
        else:
            self._seen.append((sm, memory, reasons, watts, celsius))

    def clocks(self) -> Clocks | None:
        """Return what was read, None where nothing could be."""
        if not self._seen:
            return None
        sm, memory, reasons, watts, celsius = zip(*self._seen, strict=True)
        held = 0
        for one in reasons:
            held |= one
        return Clocks(
            readings=len(self._seen),
            sm_mhz=(min(sm), max(sm)),
            memory_mhz=(min(memory), max(memory)),
            watts=max(watts),
            celsius=max(celsius),
            throttled=tuple(words for bit, words in REASONS if held & bit and words != "idle"),
        )


def _handle(nvml: Any, device: torch.device) -> Any:  # noqa: ANN401 - NVML has no types
    """Return NVML's handle of a CUDA device: by its UUID, since NVML counts what CUDA_VISIBLE_DEVICES hides."""
    import torch

    uuid = str(getattr(torch.cuda.get_device_properties(device), "uuid", ""))
    if not uuid:
        return nvml.nvmlDeviceGetHandleByIndex(device.index or 0)
    return nvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}")
