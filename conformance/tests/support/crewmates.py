"""What a crew's processes are told to do: at the top of a module, where another process finds it."""

from __future__ import annotations

import os
import signal
import time
from itertools import count

from attnconf.running.processes.gpus import VISIBLE

_turns = count(1)


def work(piece: str) -> tuple[str, int, int, str | None]:
    """Return the piece, the process, how many it had by then, and its GPU; ``die`` ends the process."""
    if piece == "die":
        os._exit(7)
    return piece, os.getpid(), next(_turns), os.environ.get(VISIBLE)


def fail(piece: str) -> str:
    """Raise."""
    raise ValueError(piece)


def half_spoils(found: object) -> bool:
    """Return whether a piece was the one that spoils its process."""
    return isinstance(found, tuple) and found[0] == "spoil"


def fell(piece: object) -> object:
    """Return the piece; a number, which is no process of ours to kill, ends the worker that holds this process."""
    if isinstance(piece, int) and os.getppid() != piece:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(30)
    return piece
