"""Freed memory: glibc gives large blocks back to the system at once, and each new one is faulted in page by page.

Judging makes and drops tensors of some MiB all the time: a process that keeps them takes half the time in the system.
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

_MMAP_THRESHOLD, _TRIM_THRESHOLD, _TOP_PAD = -3, -1, -2
"""Parameters of ``mallopt`` (malloc.h)."""

_LARGEST_KEPT = 2**25
"""Bytes of a block that is given back when it is freed; glibc takes no more."""

_KEPT = 2**28
"""Free bytes at the end of the heap above which they are given back."""

_GROWS_BY = 2**24


def keep_freed_memory() -> None:
    """Let this process keep up to some 256 MiB that it has freed. Without glibc nothing changes."""
    if not sys.platform.startswith("linux"):
        return
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)
        mallopt(_TRIM_THRESHOLD, _KEPT)
        mallopt(_TOP_PAD, _GROWS_BY)
