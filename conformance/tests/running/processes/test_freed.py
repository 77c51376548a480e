"""Freed memory is kept: a block of some MiB that is made again is not faulted in again."""

from __future__ import annotations

import subprocess
import sys

_SCRIPT = """
import resource
from attnconf.running.processes.freed import keep_freed_memory
if {kept}:
    keep_freed_memory()
bytearray(2**23)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    bytearray(2**23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_blocks_are_faulted_in_once() -> None:
    faults = {}
    for kept in (False, True):
        asked = [sys.executable, "-c", _SCRIPT.format(kept=kept)]
        done = subprocess.run(asked, capture_output=True, text=True, check=True)  # noqa: S603 - this interpreter
        faults[kept] = int(done.stdout)
    assert faults[True] <= faults[False] // 4
