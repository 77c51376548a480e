"""What comes back from a backend's process: values of this library's classes, and of those that are loaded here.

``pickle`` imports the module of every class that it meets. One of somebody else's backend would then be imported here,
with all that its import may do; so an answer that holds one is no answer. What our own modules hold, such as a build
of a kernel, is read wherever it is needed first.
"""

from __future__ import annotations

import io
import pickle
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_LONGEST = 1 << 28
"""Bytes of the longest answer; a backend that writes into the pipe itself may announce any length."""


_OURS = "attnconf."


class UnreadableError(Exception):
    """An answer that is no value of ours."""


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - pickle's own type
        if module not in sys.modules and not module.startswith(_OURS):
            message = f"it holds a {name} of {module}"
            raise UnreadableError(message)
        return super().find_class(module, name)


def receive(pipe: Connection) -> Any:  # noqa: ANN401 - whoever asks knows what is answered
    """Return the next value. Raises ``EOFError`` or ``OSError`` at the end of the pipe, else ``UnreadableError``."""
    return read(pipe.recv_bytes(_LONGEST))


def read(data: bytes) -> Any:  # noqa: ANN401 - whoever asks knows what is answered
    """Return the value that was pickled as ``data``. Raises ``UnreadableError`` for what is no value of ours."""
    try:
        return _Reader(io.BytesIO(data)).load()
    except UnreadableError:
        raise
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        raise UnreadableError(message) from error
