"""Memory of this machine: what one process may take, and which cases are therefore not run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from attnconf.errors import InvalidInputError
from attnconf.judging.footprint import footprint, least_bytes

if TYPE_CHECKING:
    from attnconf.cases.case import Case

USABLE = 0.8
"""The share of memory that cases may take: the rest is for contexts, libraries, workspaces and fragments."""

_KEPT_BYTES = 2**30
"""What torch may keep of a GPU's memory between two cases."""

_CGROUPS = ("memory.max", "memory/memory.limit_in_bytes")
_CGROUP_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Memory:
    """Bytes that one process may fill with cases, on the host and on its GPU; None is no limit."""

    host: int | None = None
    device: int | None = None

    def why_not(self, case: Case, *, accelerated: bool) -> str | None:
        """Return why ``case`` does not fit, or None. The same words for all cases: reasons are counted."""
        if self.host is None and self.device is None:
            return None
        if self.host is not None and least_bytes(case) > self.host:
            return _too_large(self.host, "host")
        needed = footprint(case, accelerated=accelerated)
        for name, bytes_needed, limit in (
            ("GPU", needed.device, self.device),
            ("host", needed.host, self.host),
        ):
            if limit is not None and bytes_needed > limit:
                return _too_large(limit, name)
        return None

    def refuse_too_large(self, case: Case, source: str, *, accelerated: bool) -> None:
        """Raise ``InvalidInputError`` about ``source`` for a case that does not fit."""
        reason = self.why_not(case, accelerated=accelerated)
        if reason is not None:
            raise InvalidInputError(source, given=f"the case {reason}", allowed="a case that fits")

    @property
    def text(self) -> str:
        """The limits in words."""
        device = "" if self.device is None else f"{gigabytes(self.device)} of GPU and "
        return device + ("any" if self.host is None else gigabytes(self.host)) + " of host memory"


def _too_large(limit: int, name: str) -> str:
    return f"needs more than the {gigabytes(limit)} of {name} memory that a process has"


def memory_held_by_others(case: Case, device: torch.device) -> str | None:
    """Return why ``case`` ran out of memory on ``device`` through no fault of a backend, or None.

    On a GPU that other processes use too, what is free besides what this one holds may be less than the case takes.
    """
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    within_reach = free + torch.cuda.memory_reserved(device)
    needed = footprint(case, accelerated=True).device
    if within_reach >= needed:
        return None
    return (
        f"other processes hold {gigabytes(total - within_reach)} of the GPU's {gigabytes(total)}, and the case takes up"
        f" to {gigabytes(needed)}"
    )


def release_cached_memory(device: torch.device) -> None:
    """Release the GPU memory that torch caches beyond ``_KEPT_BYTES``: other processes need it, too."""
    if device.type == "cuda" and torch.cuda.memory_reserved(device) > _KEPT_BYTES:
        torch.cuda.empty_cache()


def machine_memory(*, processes: int, per_gpu: int) -> Memory:
    """Return what each of ``processes`` may take of this machine, ``per_gpu`` of which share a GPU.

    Creates no CUDA context. Without a GPU only the host counts.
    """
    device = None
    if torch.cuda.is_available():
        device = int(USABLE * torch.cuda.get_device_properties(0).total_memory / per_gpu)
    return Memory(int(USABLE * host_memory() / processes), device)


def host_memory(root: Path = _CGROUP_ROOT) -> int:
    """Return the bytes of memory that this machine, or the control group of this process, has."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in _CGROUPS:
        try:
            text = (root / name).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdecimal():
            limits.append(int(text))
    return min(limits)


def gigabytes(count: int) -> str:
    """Return ``count`` bytes as text, in GB of 10^9 bytes."""
    return f"{count / 1e9:.1f} GB"
