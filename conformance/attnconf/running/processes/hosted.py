"""What a worker of a cluster does: it holds a process, and that does the pieces of work.

So a piece that ends its process costs no worker, whether a nanny watches that or not, and a GPU that is broken is left
with the process. The worker itself imports neither torch nor a backend.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import uuid
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import attnconf
from attnconf.running.processes.crew import Crew
from attnconf.running.processes.engine import LostError

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.running.processes.engine import Found, Work

_LIFE = uuid.uuid4().hex
"""Which life of the worker this is: one that starts anew may have the old one's address."""

_crews: list[Crew] = []
_one_at_a_time = Lock()


def life() -> str:
    """Return which life of the worker this is."""
    return _LIFE


def source_digest() -> str:
    """Return the SHA-256 of attnconf's own Python files here: two checkouts may have one version number."""
    root = Path(attnconf.__file__).parent
    found = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        found.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return found.hexdigest()


def do_piece(
    given_life: str, do: Callable[[Work], Found], spoils: Callable[[Found], bool], piece: Work
) -> Found | LostError:
    """Return what ``do`` returns for ``piece`` in this worker's process, in the life that it was given to."""
    if given_life != _LIFE:
        return LostError("the worker died, and another started in its place")
    with _one_at_a_time:
        if not _crews:
            multiprocessing.current_process().daemon = False  # a nanny's worker is one, and may have no children then
            _crews.append(Crew(1))
        ((_, found),) = _crews[0].map(do, [piece], spoils=spoils)
    return found


def end() -> None:
    """End the process: its GPU is free for others."""
    with _one_at_a_time:
        while _crews:
            _crews.pop().end()
