"""One process that serves a backend: how it is started, asked, watched and ended.

It is forked from a server that has imported torch, once for all processes of its caller, and never touches a GPU. The
caller imports none: it names here what the process is to do.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
from contextlib import suppress
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from attnconf.errors import one_line
from attnconf.running.processes.last_words import LastWords, reason
from attnconf.running.processes.messages import Answer, Question
from attnconf.running.processes.server import server_context, start_server, without_main
from attnconf.running.processes.wire import receive

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_END_SECONDS = 5.0

_STALLED_SECONDS = 60
"""How long one read or write of the pipe may stand still: a process can stop in the middle of an answer."""


class NoProcessError(Exception):
    """This machine starts no process for a backend: the reason."""


def _serve(pipe: Connection, output: Connection, pickled: bytes, environment: dict[str, str]) -> None:
    """Serve a backend: what does so imports torch, so it is imported there alone."""
    from attnconf.running.processes.served import serve

    serve(pipe, output, pickled, environment)


class BackendProcess:
    """A process, the pipe to it, and what it writes. Raises ``NoProcessError`` where none can be started."""

    def __init__(self, pickled: bytes) -> None:
        """``pickled`` is a ``Spec``."""
        context = server_context()
        self._pipe, there = context.Pipe()
        _limit(self._pipe.fileno())
        output, written = context.Pipe(duplex=False)
        self._words = LastWords(output)
        # The server keeps the environment in which it started itself.
        self._process = context.Process(target=_serve, args=(there, written, pickled, dict(os.environ)), daemon=True)
        self._owner = os.getpid()
        try:
            start_server()
            with without_main():
                self._process.start()
        except (AssertionError, EOFError, OSError) as error:  # an assertion: what is daemonic may have no children
            raise NoProcessError(one_line(error)) from error
        finally:
            there.close()
            written.close()

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.is_alive()

    def ask(self, question: Question, seconds: float) -> tuple[Answer, Any]:
        """Return the answer to ``question``; raises as ``hear``."""
        self._pipe.send(question)
        return self.hear(seconds)

    def hear(self, seconds: float) -> tuple[Answer, Any]:
        """Return what it says within ``seconds``.

        Raises ``TimeoutError`` if that is nothing, ``EOFError`` or ``OSError`` if it died or left its pipe, and
        ``UnreadableError`` for what is no value of ours.
        """
        ready = wait([self._pipe, self._process.sentinel], seconds)
        if not ready:
            raise TimeoutError
        # What it started may hold the pipe open, so its own end counts, but for what it said before.
        if self._pipe not in ready and not self._pipe.poll(0):
            raise EOFError
        said: tuple[Answer, Any] = receive(self._pipe)
        return said

    def end(self, *, tell: bool = False) -> str:
        """End it, with what it started, and return what it wrote, which is passed on as errors if it is to ``tell``."""
        if os.getpid() != self._owner:
            return ""
        if self._process.pid is not None:
            with suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)  # its group: compilers and the like
        self._process.kill()
        self._process.join(_END_SECONDS)
        self._pipe.close()
        return self._words.close(tell=tell)

    def ended(self, when: str = "") -> tuple[str, str]:
        """End it, and return how it had ended: a signal or an exit status, and a sentence with its last words.

        ``when`` is part of the sentence. What it wrote is passed on as errors, too.
        """
        self._process.join(_END_SECONDS)
        code = self._process.exitcode
        why = reason(self.end(tell=True))
        if code is None:
            status, sentence = "no pipe", f"left its pipe{when}, and was ended"
        else:
            status = f"exit status {code}" if code >= 0 else _signal_name(-code)
            sentence = f"died{when} ({status})"
        return status, f"{sentence}: {why}" if why else sentence


def _limit(descriptor: int) -> None:
    """Let a read or write of a socket that stands still for ``_STALLED_SECONDS`` raise ``OSError``."""
    with socket.socket(fileno=os.dup(descriptor)) as held:
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            held.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", _STALLED_SECONDS, 0))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
