"""What a crew's process is at: its end names that, and a piece of work that hangs ends the process.

The limit is ``faulthandler``'s, whose thread needs no lock of Python's: a kernel or a compiler that never returns may
hold that.
"""

from __future__ import annotations

import faulthandler
import tempfile
from contextlib import contextmanager
from pathlib import Path
from threading import TIMEOUT_MAX
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_HUNG = "Timeout ("
"""How the traceback begins that ``faulthandler`` writes before it ends a process."""

_notes: list[IO[str]] = []
"""The file in which this process notes what it is at; empty in a process that nobody watches."""


class Note:
    """The file in which one process notes what it is at, for the process that started it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="attnconf-")
        self.path = Path(self._folder.name) / "note"
        self.path.touch()

    def last_words(self, died: str) -> str:
        """Return how the process ended, and at what: ``died`` is what is known of an end that was no hang."""
        at, _, rest = self.path.read_text(errors="replace").partition("\n")
        if not at:
            return died
        limit, _, what = at.partition(" ")
        how = f"no answer within {limit} s, so its process was ended" if _HUNG in rest else died
        return f"{how}: {what}"

    def close(self) -> None:
        """Remove the file."""
        self._folder.cleanup()


def note_in(path: Path) -> None:
    """Let this process note in ``path`` what it is at, from now on."""
    _notes[:] = [path.open("r+")]


@contextmanager
def watched(what: object, seconds: float) -> Iterator[None]:
    """End this process, if it is one of a crew, when what is done here takes longer than ``seconds``.

    ``what`` is named in ``Note.last_words``, in its ``repr``, until this is left.
    """
    if not _notes:
        yield
        return
    note = _notes[0]
    _write(note, f"{seconds:g} {what!r}\n")
    faulthandler.dump_traceback_later(min(seconds, TIMEOUT_MAX), exit=True, file=note)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        _write(note, "")


def _write(note: IO[str], text: str) -> None:
    note.seek(0)
    note.truncate()
    note.write(text)
    note.flush()
