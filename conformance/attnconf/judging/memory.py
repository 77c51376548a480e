"""Memory of this machine: the share of one process, and the cases that do not fit into it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from attnconf.judging.footprint import footprint, least_bytes
from attnconf.platforms import gpu_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attnconf.cases.case import Case
    from attnconf.platforms import Platform

USABLE = 0.8
"""The share of memory for cases; the rest is for contexts, libraries, workspaces and fragmentation."""

_CGROUPS = Path("/sys/fs/cgroup")
_PROC = Path("/proc")


class _Files(NamedTuple):
    """Where a version of control groups says its limit and its use, and what it calls the cache of files."""

    limit: str
    used: str
    cached: str


_VERSION_1 = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_VERSION_2 = _Files("memory.max", "memory.current", "inactive_file")


@dataclass(frozen=True)
class Memory:
    """Bytes for the cases of one process, on the host and on its GPU; None means no limit."""

    host: int | None = None
    device: int | None = None

    def why_never(self, case: Case) -> str | None:
        """Return why ``case`` cannot fit, or None, without placing a page of it: it may be of any size."""
        if self.host is not None and least_bytes(case) > self.host:
            return _too_large(self.host, "host")
        return None

    def why_not(self, case: Case, *, accelerated: bool) -> str | None:
        """Return why ``case`` does not fit, or None. All cases get the same words, since reasons are counted."""
        if self.host is None and self.device is None:
            return None
        if (never := self.why_never(case)) is not None:
            return never
        needed = footprint(case, accelerated=accelerated)
        for name, bytes_needed, limit in (
            ("GPU", needed.device, self.device),
            ("host", needed.host, self.host),
        ):
            if limit is not None and bytes_needed > limit:
                return _too_large(limit, name)
        return None

    @property
    def text(self) -> str:
        """The limits in words."""
        device = "" if self.device is None else f"{gigabytes(self.device)} of GPU and "
        return device + ("any" if self.host is None else gigabytes(self.host)) + " of host memory"


def _too_large(limit: int, name: str) -> str:
    return f"needs more than the {gigabytes(limit)} of {name} memory that a process has"


def machine_memory(platform: Platform, *, processes: int, per_gpu: int) -> Memory:
    """Return what each of ``processes`` may take of what is free on this machine, ``per_gpu`` of which share a GPU.

    Creates no CUDA context. Without a GPU, as ``platform`` says, only the host counts.
    """
    total = None if platform.sm is None else gpu_bytes()
    device = None if total is None else int(USABLE * total / per_gpu)
    return Memory(int(USABLE * host_memory() / processes), device)


def host_memory(groups: Path = _CGROUPS, proc: Path = _PROC) -> int:
    """Return the bytes of memory that are free for this process: on the machine, and in its control groups.

    ``groups`` is where control groups are mounted, ``proc`` is procfs. Without either it is all that the machine has.
    """
    found = re.search(r"^MemAvailable: +(\d+) kB$", _text(proc / "meminfo"), re.MULTILINE)
    machine = int(found[1]) * 1024 if found else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(0, min((machine, *_left_in_groups(groups, _text(proc / "self" / "cgroup")))))


def _left_in_groups(groups: Path, memberships: str) -> Iterator[int]:
    """Yield what each limit leaves: of the group of this process and of those around it, of either version."""
    for line in ["0::/", "0:memory:/", *memberships.splitlines()]:
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        mount = groups / "memory" if controllers else groups
        files = _VERSION_1 if controllers else _VERSION_2
        inside = PurePosixPath(name.lstrip("/"))
        for folder in (mount / inside, *(mount / parent for parent in inside.parents)):
            limit = _text(folder / files.limit).strip()
            if limit.isdecimal():
                used = _text(folder / files.used).strip()
                cached = re.search(rf"^{files.cached} (\d+)$", _text(folder / "memory.stat"), re.MULTILINE)
                # the kernel drops what it caches of files before it refuses memory
                yield int(limit) - max(0, int(used or 0) - (int(cached[1]) if cached else 0))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def gigabytes(count: int) -> str:
    """Return ``count`` bytes as text, in GB of 10^9 bytes."""
    return f"{count / 1e9:.1f} GB"
