"""What another process writes to its outputs: if it dies, the reason is there, or nowhere."""

from __future__ import annotations

import os
import re
import sys
from threading import Thread
from typing import TYPE_CHECKING

from attnconf.escape import terminal_lines
from attnconf.wording import counted, cut

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_MOST = 200
_FRAME = re.compile(r"frame #\d+:")

_KEPT = 1 << 14
"""Bytes of the end of what was written: who writes without end fills neither memory nor disk."""

_READ = 1 << 16
_LINGER_SECONDS = 1.0


class LastWords:
    """Reads the two outputs of a process, which are one pipe, and keeps their end."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._end = b""
        self._written = 0
        self._reader = Thread(target=self._read, name="attnconf: outputs of a backend's process", daemon=True)
        self._reader.start()

    def close(self, *, tell: bool) -> str:
        """Return the end of what was said, and write it to this process's own standard error if it is to ``tell``."""
        self._reader.join(_LINGER_SECONDS)  # longer, if what the process started and left behind holds the pipe
        said = self._end.decode("utf-8", "replace")
        if not tell:
            return said
        if self._written > len(self._end):
            sys.stderr.write(f"[{counted(self._written - len(self._end), 'byte')} left out]\n")
        if said:
            sys.stderr.write("\n".join(terminal_lines(said.removesuffix("\n"))) + "\n")
        return said

    def _read(self) -> None:
        with self._pipe:
            while read := os.read(self._pipe.fileno(), _READ):
                self._written += len(read)
                self._end = (self._end + read)[-_KEPT:]


def redirect_output(pipe: Connection) -> None:
    """Write all that this process writes to its outputs from now on, C++ included, to ``pipe``, and close that."""
    with pipe:
        os.dup2(pipe.fileno(), 1)
        os.dup2(pipe.fileno(), 2)


def reason(said: str) -> str:
    """Return the line that says why a process died: what a C++ exception says, else the last one about an error."""
    lines = [" ".join(line.split()) for line in said.splitlines() if line.strip()]
    thrown = [line.removeprefix("what():").strip() for line in lines if line.startswith("what():")]
    named = [line for line in lines if "error" in line.lower() and not _FRAME.match(line)]
    return next((cut(some[-1], _MOST) for some in (thrown, named, lines) if some), "")
