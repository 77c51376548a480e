"""The machine of a run or of a plan."""

from __future__ import annotations

import ctypes
import importlib.metadata
import re
import sys
from pathlib import Path

from packaging.version import InvalidVersion, Version
from pydantic import Field

from attnconf.errors import InvalidInputError
from attnconf.values import Value

PACKAGES = ("torch", "triton", "flashinfer-python", "flashinfer-cubin")
"""The distributions whose versions decide what a backend can do."""

ENGINES = ("sglang", "vllm")
"""Serving engines whose own backends can be tested; a receipt records their versions where they are installed."""

_NVIDIA_DRIVER = "libcuda.so.1"
_AMD_DRIVER = Path("/dev/kfd")

_SM = re.compile(r"(\d{1,2})\.(\d)")


class Platform(Value):
    """What a backend's capability depends on.

    ``sm`` is the compute capability as (major, minor), None without a GPU: (10, 0) and (10, 3) are the SM100 family,
    (9, 0) is Hopper, (12, x) is consumer Blackwell and not SM100. ``cuda`` is the runtime's version text, and
    ``packages`` maps a distribution to its installed version. A ``simulated`` platform is for resolution and
    planning; nothing is ever executed for it.
    """

    device: str = "cpu"
    sm: tuple[int, int] | None = None
    cuda: str | None = None
    driver: str | None = None
    packages: dict[str, str] = Field(default_factory=dict)
    simulated: bool = False

    @property
    def sm_text(self) -> str:
        """The compute capability as ``"10.0"``, or ``"none"``."""
        return "none" if self.sm is None else f"{self.sm[0]}.{self.sm[1]}"

    def version(self, package: str) -> Version | None:
        """Return the parsed version of ``package``, None when it is missing or unreadable."""
        try:
            return Version(self.packages[package])
        except (KeyError, InvalidVersion):
            return None


def installed_packages() -> dict[str, str]:
    """Return the installed versions of ``PACKAGES`` and ``ENGINES``, read from metadata: imports none of them."""
    found = {}
    for name in (*PACKAGES, *ENGINES):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def detect() -> Platform:
    """Describe this machine; the first visible GPU counts. Imports torch, but where it could find no GPU."""
    packages = installed_packages()
    if not has_driver():
        return Platform(packages=packages)
    import torch

    if not torch.cuda.is_available():
        return Platform(packages=packages)
    return Platform(
        device=torch.cuda.get_device_name(0),
        sm=torch.cuda.get_device_capability(0),
        cuda=torch.version.cuda,
        driver=_driver_version(),
        packages=packages,
    )


def has_driver() -> bool:
    """Return whether a GPU's driver may be here: without one torch finds no GPU, and it takes seconds to say so."""
    if not sys.platform.startswith("linux") or _AMD_DRIVER.exists():
        return True
    try:
        ctypes.CDLL(_NVIDIA_DRIVER)
    except OSError:
        return False
    return True


def has_others(platform: Platform) -> bool:
    """Return whether a visible GPU of this machine is another one than that of ``platform``, which was detected."""
    if platform.sm is None:
        return False
    import torch

    indices = range(torch.cuda.device_count())
    found = {(torch.cuda.get_device_name(one), torch.cuda.get_device_capability(one)) for one in indices}
    return found != {(platform.device, platform.sm)}


def gpu_bytes() -> int | None:
    """Return the memory of the first visible GPU, or None without one. Creates no CUDA context."""
    import torch

    return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else None


def simulate(sm: str, *, cuda: str | None = "13.0") -> Platform:
    """Describe an absent machine of capability ``sm`` with this machine's packages. Raises ``InvalidInputError``."""
    return Platform(
        device=f"simulated SM {sm}", sm=parse_sm(sm), cuda=cuda, packages=installed_packages(), simulated=True
    )


def platform_text(platform: Platform) -> str:
    """Return the platform in words: ``SM 10.0 with CUDA 13.0``, ``no GPU``."""
    label = " (simulated)" if platform.simulated else ""
    if platform.sm is None:
        return f"no GPU{label}"
    cuda = f" with CUDA {platform.cuda}" if platform.cuda else ""
    return f"SM {platform.sm_text}{cuda}{label}"


def parse_sm(text: str) -> tuple[int, int]:
    """Read ``"10.0"`` as (10, 0). Raises ``InvalidInputError`` for anything else."""
    match = _SM.fullmatch(text)
    if match is None:
        allowed = 'major.minor, such as "10.0"'
        raise InvalidInputError("SM", field="compute capability", given=repr(text), allowed=allowed)
    return int(match[1]), int(match[2])


def _driver_version() -> str | None:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return None
