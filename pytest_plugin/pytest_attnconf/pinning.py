"""One GPU a worker: pytest-xdist's workers share the GPUs that the caller sees, before torch looks for them.

The list of GPUs is the caller's CUDA_VISIBLE_DEVICES (indices, UUIDs and MIG names stay as they are), else what
``nvidia-smi -L`` shows. Worker N gets entry N; further workers start over at the first. ``-n auto`` means one worker a
GPU. A run that does not ask for attnconf, and a machine without a GPU, are left alone.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_attnconf.asked import is_asked_for

if TYPE_CHECKING:
    from collections.abc import Sequence

VISIBLE = "CUDA_VISIBLE_DEVICES"
WORKER = "PYTEST_XDIST_WORKER"
_NO_DEVICES = "NoDevFiles"
_DRIVER = Path("/proc/driver/nvidia/gpus")
_GPU = re.compile(r"^GPU \d+:.*\(UUID: (GPU-[^)]+)\)")
_MIG = re.compile(r"^\s+MIG .*\(UUID: (MIG-[^)]+)\)")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Pin a worker to its GPU: the environment is settled before a conftest file can import torch."""
    worker = os.environ.get(WORKER, "")
    options = early_config.known_args_namespace
    if not worker or not is_asked_for(options, getattr(options, "file_or_dir", None) or ()):
        return
    chosen = gpu_of(worker, visible_gpus())
    if chosen is not None:
        os.environ[VISIBLE] = chosen


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Answer ``-n auto`` with the number of GPUs, where there are any and nobody said otherwise."""
    if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS") or not is_asked_for(config.option, config.args):
        return None
    return len(visible_gpus()) or None


def visible_gpus() -> tuple[str, ...]:
    """Return the GPUs that a process may use, by the names that CUDA_VISIBLE_DEVICES takes; imports no torch."""
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


def gpu_of(worker: str, gpus: Sequence[str]) -> str | None:
    """Return the GPU of the worker named ``worker``, such as gw3, or None where there is nothing to choose."""
    match = re.fullmatch(r"gw(\d+)", worker)
    return gpus[int(match[1]) % len(gpus)] if match is not None and gpus else None


def pinning_line(workers: int) -> str | None:
    """Say how ``workers`` share the GPUs, or None without workers or GPUs."""
    gpus = visible_gpus() if workers else ()
    if not gpus:
        return None
    if workers > len(gpus):
        return f"{workers} workers share {len(gpus)} GPU{'s' if len(gpus) > 1 else ''}, in turn: {', '.join(gpus)}"
    return f"one GPU a worker: {', '.join(gpus[:workers])}"
