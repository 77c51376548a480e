"""Where a command writes: lines for its reader, and what is wrong beside them."""

from __future__ import annotations

import sys


class Console:
    """The two streams of a command line. Every line is written at once, since a pipe may be read while it runs."""

    def say(self, line: str) -> None:
        """Write a line to the standard output."""
        print(line, flush=True)

    def complain(self, line: str) -> None:
        """Write a line to the standard error, which no program reads as a result."""
        print(line, file=sys.stderr, flush=True)
