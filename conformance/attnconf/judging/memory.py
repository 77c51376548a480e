"""Memory of this machine: the share of one process, and the cases that do not fit into it."""

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
"""The share of memory for cases; the rest is for contexts, libraries, workspaces and fragmentation."""

_KEPT_BYTES = 2**30
"""GPU memory that torch may cache between two cases."""

_CGROUPS = ("memory.max", "memory/memory.limit_in_bytes")
"""The files with the limit of a control group, of version 2 and of version 1."""

_CGROUP_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Memory:
    """Bytes for the cases of one process, on the host and on its GPU; None means no limit."""

    host: int | None = None
    device: int | None = None

    def why_not(self, case: Case, *, accelerated: bool) -> str | None:
        """Return why ``case`` does not fit, or None. All cases get the same words, since reasons are counted."""
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
    """Return why ``case`` ran out of memory on ``device`` if other processes are the reason, else None.

    On a shared GPU, the memory that is free or cached by this process may be less than the case needs.
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
    """Return the share of each of ``processes`` in this machine's memory; ``per_gpu`` of them share a GPU.

    Creates no CUDA context. Without a GPU only the host counts.
    """
    device = None
    if torch.cuda.is_available():
        device = int(USABLE * torch.cuda.get_device_properties(0).total_memory / per_gpu)
    return Memory(int(USABLE * host_memory() / processes), device)


def host_memory(root: Path = _CGROUP_ROOT) -> int:
    """Return the bytes of memory of this machine, or of the control group of this process if that has less."""
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
