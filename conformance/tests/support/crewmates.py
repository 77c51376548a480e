"""What a crew's processes are told to do: at the top of a module, where another process finds it."""

from __future__ import annotations

import os
import signal
import sys
import time
from itertools import count
from types import SimpleNamespace

from attnconf.cli import main
from attnconf.running.processes.crew import Crew
from attnconf.running.processes.gpus import VISIBLE
from attnconf.running.processes.watched import watched

_turns = count(1)


def work(piece: str) -> tuple[str, int, int, str | None]:
    """Return the piece, the process, how many it had by then, and its GPU; ``die`` ends the process."""
    if piece == "die":
        os._exit(7)
    return piece, os.getpid(), next(_turns), os.environ.get(VISIBLE)


def fail(piece: str) -> str:
    """Raise."""
    raise ValueError(piece)


def at(piece: str) -> str:
    """Return the piece; ``hang`` never ends, ``die`` ends the process, and ``slow`` takes longer than a limit."""
    if piece == "slow":
        time.sleep(1.5)
    with watched(f"case {piece}", 1.0):
        if piece == "die":
            os.kill(os.getpid(), signal.SIGSEGV)
        while piece == "hang":
            time.sleep(30)
    return piece


def wait(seconds: float) -> None:
    """Take a while."""
    time.sleep(seconds)


def tell_and_wait(seconds: float) -> None:
    """Print which process this is, and take a while."""
    sys.stdout.write(f"{os.getpid()}\n")
    sys.stdout.flush()
    time.sleep(seconds)


def be_interrupted() -> None:
    """Be a command that a Ctrl-C meets while its crew is at work."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its background jobs ignore it

    def run(_arguments: object, _console: object) -> int:
        with Crew(1) as crew:
            list(crew.map(tell_and_wait, [60.0]))
        return 0

    main._parser = lambda: SimpleNamespace(parse_args=lambda _: SimpleNamespace(run=run))  # type: ignore[assignment, return-value]
    sys.exit(main.main([]))


def half_spoils(found: object) -> bool:
    """Return whether a piece was the one that spoils its process."""
    return isinstance(found, tuple) and found[0] == "spoil"


def fell(piece: object) -> object:
    """Return the piece; a number, which is no process of ours to kill, ends the worker that holds this process."""
    if isinstance(piece, int) and os.getppid() != piece:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(30)
    return piece
