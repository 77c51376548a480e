"""What another process writes to its outputs: if it dies, the reason is there, or nowhere."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

from attnconf.wording import cut

_MOST = 200
_FRAME = re.compile(r"frame #\d+:")


class LastWords:
    """A file that takes the place of a process's two outputs, until it is closed."""

    def __init__(self) -> None:
        self._file = tempfile.NamedTemporaryFile(prefix="attnconf-", suffix=".stderr")  # noqa: SIM115 - see close

    @property
    def path(self) -> str:
        """The file, for ``redirect_output``."""
        return self._file.name

    def close(self) -> str:
        """Write what was said to this process's own standard error, and return it; the file is gone."""
        said = self._file.read().decode("utf-8", "replace")
        self._file.close()
        sys.stderr.write(said)
        return said


def redirect_output(path: str) -> None:
    """Append all that this process writes to its outputs from now on, C++ included, to the file ``path``."""
    with Path(path).open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def reason(said: str) -> str:
    """Return the line that says why a process died: what a C++ exception says, else the last one about an error."""
    lines = [" ".join(line.split()) for line in said.splitlines() if line.strip()]
    thrown = [line.removeprefix("what():").strip() for line in lines if line.startswith("what():")]
    named = [line for line in lines if "error" in line.lower() and not _FRAME.match(line)]
    return next((cut(some[-1], _MOST) for some in (thrown, named, lines) if some), "")
