"""A backend in a process of its own: what it does to that process costs one result, and never the caller.

Everything of the backend happens there: its module is imported, it is made, it declares itself, it runs. It may hang,
exit, print, crash or change what a process shares; the caller sees a declaration and results, or a sentence about the
end of the process. Both ends are held to a time. A process that ended is started anew for the next case: a CUDA error
is sticky, too. One that does not come up is not tried again.

On a busy two-core CPU (``python ci/benchmarks/isolation.py``) it costs 3 s for the first backend of a session, in which
a server that never touches a GPU imports torch for all of them, 0.3 s for each other one, and 10 ms a case, whose
judgement takes some 170 ms. So it is the default wherever another process can make the backend.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from typing import TYPE_CHECKING, Any, Unpack

from attnconf.errors import BackendUnavailableError
from attnconf.judging.result import CaseResult, LayerResult, Outcome
from attnconf.running.processes.declaration import Declaration
from attnconf.running.processes.last_words import LastWords, reason
from attnconf.running.processes.served import Answer, Options, Spec, serve
from attnconf.running.processes.wire import UnreadableError, receive

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkServerContext, ForkServerProcess

    from attnconf.cases.case import Case
    from attnconf.judging.checks.catalogue import CheckSelection

_SERVER_SECONDS = 300.0
"""How long the server may take to import torch, cold, before a process of its counts as hanging."""

START_SECONDS = 300.0
"""How long a backend may take until it stands: the import of a kernel library, cold."""

_END_SECONDS = 5.0

_IMPORTED_ONCE = ["torch", "attnconf.running.processes.served"]
"""What every process needs, and what starts neither a thread nor CUDA when it is imported."""


class UnreachableFactoryError(BackendUnavailableError):
    """A factory that another process cannot import: the user's to change, and not this machine's."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(
            f"backend {name} cannot run in a process of its own, which cannot import its factory ({why}): register a"
            " function of an installed module, or let --attnconf-isolate=off run it here"
        )


def start_server() -> None:
    """Start the server that processes are forked from, if it does not run; does not wait for its imports."""
    _context()
    forkserver.ensure_running()


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED_ONCE)
    return context


@dataclass(frozen=True)
class _Running:
    """One process, the pipe to it, the file of its outputs, and the process whose it is."""

    process: ForkServerProcess
    pipe: Connection
    words: LastWords
    owner: int

    def end(self) -> str:
        """End it, and return what it wrote."""
        if os.getpid() != self.owner:
            return ""
        if self.process.is_alive() and self.process.pid is not None:
            with suppress(OSError):
                os.killpg(self.process.pid, signal.SIGKILL)  # with what it started, such as compilers
        self.process.kill()
        self.process.join(_END_SECONDS)
        self.pipe.close()
        return self.words.close()


class IsolatedBackend:
    """Runs cases of one backend in a process of its own, which is started when it is needed."""

    def __init__(self, spec: Spec, *, seconds: float, start_seconds: float = START_SECONDS) -> None:
        """``seconds`` is how long one case may take, ``start_seconds`` how long the backend may take to start.

        Raises ``UnreachableFactoryError`` for a factory that another process cannot import, such as a lambda.
        """
        try:
            self._pickled = pickle.dumps(spec)
        except Exception as error:
            raise UnreachableFactoryError(spec.name, str(error)) from error
        self._spec = spec
        self._seconds = seconds
        self._start_seconds = start_seconds
        self._declaration: Declaration | None = None
        self._broken: BackendUnavailableError | None = None
        self._running: _Running | None = None
        self._dropped: weakref.finalize[[], IsolatedBackend] | None = None
        self.starts = 0

    def declaration(self) -> Declaration:
        """Return what the backend declares there. Raises ``BackendUnavailableError`` where it does not come up."""
        if self._declaration is None:
            self._connect()
        if self._declaration is None:
            message = f"the process of backend {self._spec.name} declared nothing"
            raise BackendUnavailableError(message)
        return self._declaration

    @property
    def declared(self) -> Declaration | None:
        """What the backend declares, if it came up already."""
        return self._declaration

    def run(self, case: Case, checks: CheckSelection = "rotated", **how: Unpack[Options]) -> CaseResult:
        """Run one case there, ``how`` as ``run_case`` takes it. A process that dies or hangs is a crashed result.

        So is one that does not come up again. Raises ``BackendUnavailableError`` where it never came up.
        """
        return self._ask(case, checks, how)

    def probe(self, case: Case) -> CaseResult:
        """Ask there for the layers of ``case`` that the backend declares unsupported; else as ``run``."""
        return self._ask(case, None, {})

    def _ask(self, case: Case, checks: CheckSelection | None, how: Options) -> CaseResult:
        started = time.perf_counter()
        try:
            pipe = self._connect()
        except BackendUnavailableError as error:
            if self._declaration is None:
                raise
            return self._lost(case, f"it does not come up again: {error}", "no restart", started)
        try:
            pipe.send((case, checks, how))
            if not pipe.poll(self._seconds):
                self.stop()
                why = f"no answer within {self._seconds:g} s: the process was ended"
                return self._lost(case, why, "no answer", started)
            kind, answer = receive(pipe)
        except (EOFError, OSError):
            status, end = self._end()
            return self._lost(case, f"the process died {end}", status, started)
        except UnreadableError as error:
            self.stop()
            return self._lost(case, f"its answer is no result: {error}", "no result", started)
        if kind is Answer.UNAVAILABLE:
            raise self._refuse(answer)
        result: CaseResult
        result, healthy = answer
        if not healthy:
            self.stop()
        return result

    def stop(self) -> str:
        """End the process, if there is one, and return what it wrote to its outputs; that is passed on as errors."""
        running, self._running = self._running, None
        if self._dropped is not None:
            self._dropped.detach()
        return "" if running is None else running.end()

    def _connect(self) -> Connection:
        if self._running is not None and self._running.process.is_alive():
            return self._running.pipe
        if self._broken is not None:
            raise self._broken
        self.stop()
        context = _context()
        here, there = context.Pipe()
        words = LastWords()
        # The server keeps the environment in which it started itself.
        settings = (self._pickled, dict(os.environ), words.path)
        process = context.Process(target=serve, args=(there, *settings), daemon=True)
        process.start()
        there.close()
        self._running = _Running(process, here, words, os.getpid())
        self._dropped = weakref.finalize(self, self._running.end)  # also where nobody closes a session
        self.starts += 1
        kind, said = self._hear(here, _SERVER_SECONDS)
        if kind is Answer.BEGUN:
            kind, said = self._hear(here, self._start_seconds)
        if kind is Answer.UNREACHABLE:
            self.stop()
            self._broken = UnreachableFactoryError(self._spec.name, said)
            raise self._broken
        if kind is not Answer.DECLARED:
            raise self._refuse(said)
        self._declaration = said
        return here

    def _hear(self, pipe: Connection, seconds: float) -> tuple[Answer, Any]:
        """Return what the process says within ``seconds`` of its start."""
        try:
            in_time = pipe.poll(seconds)
            said: tuple[Answer, Any] = receive(pipe) if in_time else (Answer.UNAVAILABLE, _late(self._spec, seconds))
        except (EOFError, OSError):
            why = f"the process of backend {self._spec.name}: died at its start {self._end()[1]}"
            raise self._refuse(why) from None
        except UnreadableError as error:
            why = f"the process of backend {self._spec.name}: what it declares cannot be read: {error}"
            raise self._refuse(why) from None
        return said

    def _refuse(self, why: str) -> BackendUnavailableError:
        """End the process for good."""
        self.stop()
        self._broken = BackendUnavailableError(why)
        return self._broken

    def _end(self) -> tuple[str, str]:
        """Return how the process ended, as a signal or exit status, and that in parentheses with its last words."""
        code = None
        if self._running is not None:
            self._running.process.join(_END_SECONDS)
            code = self._running.process.exitcode
        status = f"exit status {code}" if code is None or code >= 0 else _signal_name(-code)
        why = reason(self.stop())
        return status, f"({status}): {why}" if why else f"({status})"

    def _lost(self, case: Case, why: str, error: str, started: float) -> CaseResult:
        layers = tuple(
            LayerResult(layer=index, outcome=Outcome.CRASHED, reason=why, error=error)
            for index in range(len(case.layers))
        )
        known = self.declaration()
        seconds = time.perf_counter() - started
        return CaseResult(case=case, backend=known.name, evidence=known.evidence, layers=layers, seconds=seconds)


def _late(spec: Spec, seconds: float) -> str:
    return f"the process of backend {spec.name}: did not start within {seconds:g} s"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
