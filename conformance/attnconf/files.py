"""Files: how every file is read, up to a size, and written, whole or not at all; a device stays one."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import select
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_BYTES = 16 * 10**6
"""The size up to which a file is read; the receipt of a run of every backend has 1 MB."""

PATIENCE = 8.0
"""Seconds in which a pipe or a device must have given everything, and in which somebody must read what is written."""

_CHUNK = 2**20
_PAUSE = 0.05
_STREAM = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_ONLY_IN_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY)
"""How a folder takes no new name, though a file in it may be writable: it is read-only, or the file is a mount."""


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """Return what the file, the pipe or the device ``path`` holds, which is at most ``most`` bytes.

    Raises ``InvalidInputError`` for a larger one, of which no more is read, for a pipe or a device that does not end in
    time, and for what cannot be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | _STREAM)  # else a pipe blocks until somebody opens its other end
        try:
            content = b"".join(_chunks(handle, most + 1))
        finally:
            os.close(handle)
    except (OSError, ValueError) as error:  # a path may hold a null character
        raise InvalidInputError(str(path), given=f"cannot be read ({_reason(error)})") from None
    if len(content) > most:
        raise InvalidInputError(str(path), given="too large", allowed=f"at most {most / 1e6:g} MB")
    return content


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """Return the text of ``path``. Raises ``InvalidInputError`` as ``read_bytes`` does, and for what is not UTF-8."""
    try:
        return read_bytes(path, most).decode().replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise InvalidInputError(str(path), given=f"cannot be read ({error})") from None


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, as ``write_bytes`` does. Raises ``InvalidInputError`` when it cannot be written."""
    try:
        write_bytes(path, text.encode(errors="backslashreplace"))
    except OSError as error:
        raise _unwritable(path, error) from None


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, or to what it links to. Raises ``OSError``.

    A pipe or a device is written to. A file is replaced by one that was written beside it: it stays what it was until
    then, and of several writers at once one has the last word.
    """
    found = _status(path)
    if found is not None and _is_stream(found):
        _write_stream(path, found, content)
        return
    target = Path(os.path.realpath(path))
    try:
        _replace(target, found, content)
    except OSError as error:
        if found is None or error.errno not in _ONLY_IN_PLACE or not os.access(target, os.W_OK):
            raise
        _overwrite(target, content)


def refuse_unwritable(path: Path) -> None:
    """Raise ``InvalidInputError`` if ``path`` could not be written to as things are; nothing is changed."""
    try:
        found = _status(path)
        if found is None:
            draft, handle = _draft(Path(os.path.realpath(path)))
            os.close(handle)
            draft.unlink()
        else:
            _refuse_closed(path, found)
    except OSError as error:
        raise _unwritable(path, error) from None


def _status(path: Path) -> os.stat_result | None:
    """Return what ``path`` is, behind its links, None where nothing is yet."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _refuse_closed(path: Path, found: os.stat_result) -> None:
    """Raise ``OSError`` for a folder, and for what this user may not write to."""
    code = errno.EISDIR if stat.S_ISDIR(found.st_mode) else (0 if os.access(path, os.W_OK) else errno.EACCES)
    if code:
        raise OSError(code, os.strerror(code))


def _is_stream(found: os.stat_result) -> bool:
    """Return whether it is written to as it is: neither a file nor a folder, or a file that is an output of ours."""
    kind = found.st_mode
    return not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)) or _output(found) is not None


def _output(found: os.stat_result) -> int | None:
    """Return the standard stream of this process that ``found`` is, for ``/dev/stdout`` and what it leads to."""
    for handle in (1, 2):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(handle), found):
                return handle
    return None


def _chunks(handle: int, most: int) -> Iterator[bytes]:
    """Yield up to ``most`` bytes. Raises ``OSError``, also when a pipe or a device does not end in time."""
    patient = not stat.S_ISREG(os.fstat(handle).st_mode)
    deadline = time.monotonic() + PATIENCE
    while most > 0:
        if patient:
            _wait(handle, select.POLLIN, deadline, "nothing more came, and no end")
        try:
            chunk = os.read(handle, min(most, _CHUNK))
        except BlockingIOError:
            continue
        if not chunk:
            return
        most -= len(chunk)
        yield chunk


def _wait(handle: int, event: int, deadline: float, otherwise: str) -> None:
    """Wait until ``handle`` is ready. Raises ``TimeoutError`` at the ``deadline``."""
    poll = select.poll()
    poll.register(handle, event)
    left = deadline - time.monotonic()
    if left <= 0 or not poll.poll(1000 * left):
        raise TimeoutError(errno.ETIMEDOUT, f"{otherwise} within {PATIENCE:g} s")


def _write_stream(path: Path, found: os.stat_result, content: bytes) -> None:
    handle = _output(found)
    if handle is None:
        handle = _open_stream(path, found)
        try:
            _write_all(handle, content)
        finally:
            os.close(handle)
    else:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()  # what was printed before stands before
        _write_all(handle, content)


def _open_stream(path: Path, found: os.stat_result) -> int:
    """Open a pipe or a device; a pipe waits for a reader."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return os.open(path, os.O_WRONLY | _STREAM)
        except OSError as error:
            if error.errno != errno.ENXIO or not stat.S_ISFIFO(found.st_mode):
                raise
            if time.monotonic() > deadline:
                raise OSError(errno.ENXIO, "a pipe that nobody reads") from None
            time.sleep(_PAUSE)


def _write_all(handle: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        try:
            left = left[os.write(handle, left) :]
        except BlockingIOError:
            _wait(handle, select.POLLOUT, time.monotonic() + PATIENCE, "nobody read on")


def _draft(target: Path) -> tuple[Path, int]:
    """Return a new file of this process alone in the folder of ``target``, and its open handle."""
    draft = target.with_name(f".attnconf-{os.getpid()}-{secrets.token_hex(4)}.part")
    return draft, os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)


def _replace(target: Path, found: os.stat_result | None, content: bytes) -> None:
    if found is not None:
        _refuse_closed(target, found)
    draft, handle = _draft(target)
    try:
        with os.fdopen(handle, "wb") as file:
            if found is not None:
                with contextlib.suppress(OSError):
                    os.fchmod(handle, stat.S_IMODE(found.st_mode))
            file.write(content)
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _overwrite(target: Path, content: bytes) -> None:
    """Write in place, and put back what was there if that fails."""
    before = target.read_bytes()
    try:
        target.write_bytes(content)
    except OSError:
        with contextlib.suppress(OSError):
            target.write_bytes(before)
        raise


def _unwritable(path: Path, error: OSError) -> InvalidInputError:
    return InvalidInputError(str(path), given=f"cannot be written ({_reason(error)})")


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
