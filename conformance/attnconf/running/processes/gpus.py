"""The GPUs that a process may use, by the names that CUDA_VISIBLE_DEVICES takes; nothing here imports torch.

The list is the caller's CUDA_VISIBLE_DEVICES (indices, UUIDs and MIG names stay as they are), else what
``nvidia-smi -L`` shows. Processes that share GPUs take them in turn, each before torch looks for them.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

VISIBLE = "CUDA_VISIBLE_DEVICES"
_NO_DEVICES = "NoDevFiles"
_DRIVER = Path("/proc/driver/nvidia/gpus")
_GPU = re.compile(r"^GPU \d+:.*\(UUID: (GPU-[^)]+)\)")
_MIG = re.compile(r"^\s+MIG .*\(UUID: (MIG-[^)]+)\)")


def visible_gpus() -> tuple[str, ...]:
    """Return the GPUs that this process may use."""
    listed = os.environ.get(VISIBLE)
    return installed_gpus() if listed is None else listed_gpus(listed)


def listed_gpus(text: str) -> tuple[str, ...]:
    """Return the entries of a CUDA_VISIBLE_DEVICES; like CUDA, stop at the first that names no device."""
    found: list[str] = []
    for entry in (part.strip() for part in text.split(",")):
        if not entry or entry.startswith("-") or entry == _NO_DEVICES:
            break
        found.append(entry)
    return tuple(found)


def installed_gpus() -> tuple[str, ...]:
    """Return the GPUs of this machine: MIG devices in place of the GPU that they divide; none without a driver."""
    if not _DRIVER.is_dir():
        return ()
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True, timeout=60)  # noqa: S607 - the driver's tool, from PATH
    except (OSError, subprocess.SubprocessError):
        return tuple(str(index) for index in range(len(list(_DRIVER.iterdir()))))
    return parse_list(done.stdout)


def parse_list(text: str) -> tuple[str, ...]:
    """Return the UUIDs in the output of ``nvidia-smi -L``."""
    found: list[str] = []
    whole = False  # whether the last entry is a GPU that no MIG device has replaced
    for line in text.splitlines():
        if gpu := _GPU.match(line):
            found.append(gpu[1])
            whole = True
        elif mig := _MIG.match(line):
            if whole:
                found.pop()
            found.append(mig[1])
            whole = False
    return tuple(found)


def use_only(index: int, gpus: Sequence[str]) -> None:
    """Leave process number ``index`` one of ``gpus``, in turn; nothing where there is none. Before CUDA starts."""
    if gpus:
        os.environ[VISIBLE] = gpus[index % len(gpus)]
