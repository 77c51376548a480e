"""A backend in a process of its own: an illegal access, a device assert or a hang costs one result, not the session.

A CUDA error of that kind is sticky: every later call of the process fails. So the process that met one answers, and
ends; the next case starts a new one. The price is the copy of a case and a result through a pipe (2 to 5 ms, over
200 small cases of ``reference`` on a busy two-core CPU), the process's start before the first case and after each crash
(the import of the kernels), and its CUDA context on the GPU. torch is imported once, by a server that all processes of
a session are forked from; it never touches a GPU.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
from dataclasses import dataclass
from multiprocessing import forkserver
from typing import TYPE_CHECKING

from attnconf.backends.builds import BUILD_BUDGET
from attnconf.errors import AttnconfError, BackendUnavailableError
from attnconf.judging.result import CaseResult, LayerResult, Outcome
from attnconf.running.processes.last_words import LastWords, reason, redirect_stderr

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkServerContext, ForkServerProcess

    import torch

    from attnconf.backends.protocol import Backend, EvidenceKind
    from attnconf.cases.case import Case
    from attnconf.judging.checks.catalogue import CheckSelection
    from attnconf.platforms import Platform

START_SECONDS = 300.0
"""How long a process may take until its backend stands: the import of torch and of a kernel library, cold."""

_END_SECONDS = 5.0

_IMPORTED_ONCE = ["torch", "attnconf.judging.run", "attnconf.backends.registry"]
"""What every process needs, and what starts neither a thread nor CUDA when it is imported."""


def start_server() -> None:
    """Start the server that processes are forked from, if it does not run; does not wait for its imports."""
    _context()
    forkserver.ensure_running()


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED_ONCE)
    return context


@dataclass(frozen=True)
class Spec:
    """What a process needs to make its backend: its registered name, or a factory that pickle can name."""

    name: str
    platform: Platform
    factory: Callable[[Platform], Backend] | None = None
    build_budget: float = BUILD_BUDGET


class IsolatedBackend:
    """Runs cases of one backend in a process of its own, which is started when it is needed."""

    def __init__(self, spec: Spec, *, evidence: EvidenceKind, shown_as: str, seconds: float) -> None:
        """``seconds`` is how long one case may take."""
        try:
            pickle.dumps(spec)
        except Exception as error:
            message = (
                f"backend {spec.name} cannot run in a process of its own: {error}; --attnconf-isolate off runs it here"
            )
            raise BackendUnavailableError(message) from error
        self._spec = spec
        self._evidence = evidence
        self._name = shown_as
        self._seconds = seconds
        self._process: ForkServerProcess | None = None
        self._pipe: Connection | None = None
        self._words: LastWords | None = None
        self.starts = 0

    def run(self, case: Case, checks: CheckSelection = "rotated", **how: bool) -> CaseResult:
        """Run one case there, ``how`` as ``run_case`` takes it. A process that dies or hangs is a crashed result."""
        return self._ask(case, checks, how)

    def probe(self, case: Case) -> CaseResult:
        """Ask there for the layers of ``case`` that the backend declares unsupported; else as ``run``."""
        return self._ask(case, None, {})

    def _ask(self, case: Case, checks: CheckSelection | None, how: dict[str, bool]) -> CaseResult:
        started = time.perf_counter()
        pipe = self._connect()
        pipe.send((case, checks, how))
        if not pipe.poll(self._seconds):
            self.stop()
            reason = f"no answer within {self._seconds:g} s: the process was ended"
            return self._lost(case, reason, "no answer", started)
        try:
            answer = pipe.recv()
        except (EOFError, OSError):
            status, end = self._end()
            return self._lost(case, f"the process died {end}", status, started)
        result, healthy = answer
        if not healthy:
            self.stop()
        if isinstance(result, AttnconfError):
            raise result
        if not isinstance(result, CaseResult):
            message = f"the process of backend {self._spec.name} answered with a {type(result).__name__}"
            raise TypeError(message)
        return result

    def stop(self) -> str:
        """End the process, if there is one, and return what it wrote to its standard error; that is passed on."""
        if self._process is not None:
            self._process.kill()
            self._process.join(_END_SECONDS)
        if self._pipe is not None:
            self._pipe.close()
        said = self._words.close() if self._words is not None else ""
        self._process = self._pipe = self._words = None
        return said

    def _connect(self) -> Connection:
        if self._pipe is not None and self._process is not None and self._process.is_alive():
            return self._pipe
        self.stop()
        context = _context()
        here, there = context.Pipe()
        self._words = LastWords()
        # The server keeps the environment in which it started itself.
        settings = (self._spec, dict(os.environ), self._words.path)
        self._process = context.Process(target=_serve, args=(there, *settings), daemon=True)
        self._process.start()
        there.close()
        self._pipe = here
        self.starts += 1
        ready = here.poll(START_SECONDS)
        try:
            error = here.recv() if ready else f"did not start within {START_SECONDS:g} s"
        except (EOFError, OSError):
            error = f"died at its start {self._end()[1]}"
        if error is not None:
            self.stop()
            message = f"the process of backend {self._spec.name}: {error}"
            raise BackendUnavailableError(message)
        return here

    def _end(self) -> tuple[str, str]:
        """Return how the process ended, as a signal or exit status, and that in parentheses with its last words."""
        code = None
        if self._process is not None:
            self._process.join(_END_SECONDS)
            code = self._process.exitcode
        status = signal.Signals(-code).name if code is not None and code < 0 else f"exit status {code}"
        why = reason(self.stop())
        return status, f"({status}): {why}" if why else f"({status})"

    def _lost(self, case: Case, reason: str, error: str, started: float) -> CaseResult:
        layers = tuple(
            LayerResult(layer=index, outcome=Outcome.CRASHED, reason=reason, error=error)
            for index in range(len(case.layers))
        )
        seconds = time.perf_counter() - started
        return CaseResult(case=case, backend=self._name, evidence=self._evidence, layers=layers, seconds=seconds)


def _serve(pipe: Connection, spec: Spec, environment: dict[str, str], words: str) -> None:
    """Answer cases until the pipe closes or the device is lost."""
    os.environ.clear()
    os.environ.update(environment)
    redirect_stderr(words)

    import torch

    from attnconf.backends.registry import Registry
    from attnconf.judging.checks.catalogue import SELECTIONS
    from attnconf.judging.checks.refusal import probe_case
    from attnconf.judging.memory import release_cached_memory
    from attnconf.judging.run import run_case

    torch.set_num_threads(1)
    registry = Registry()
    if spec.factory is not None:
        registry.register(spec.name, spec.factory)
    device = torch.device("cpu" if spec.platform.sm is None else "cuda")
    try:
        backend = registry.make(spec.name, spec.platform)
        torch.zeros(1, device=device).item()  # creates the CUDA context: no case's time pays for it
    except (AttnconfError, RuntimeError) as error:
        pipe.send(str(error))
        return
    pipe.send(None)
    while True:
        try:
            case, checks, how = pipe.recv()
        except EOFError:
            return
        if checks is None:
            result = probe_case(case, backend, spec.platform, device)
        else:
            choose = SELECTIONS[checks]
            budget = spec.build_budget
            result = run_case(case, backend, spec.platform, device, choose=choose, build_budget=budget, **how)
        crashed = any(layer.outcome is Outcome.CRASHED for layer in result.layers)
        healthy = not (crashed and device.type == "cuda" and _is_lost(device))
        pipe.send((result, healthy))
        if not healthy:
            return
        release_cached_memory(device)


def _is_lost(device: torch.device) -> bool:
    import torch

    try:
        torch.cuda.synchronize(device)
        _ = torch.zeros(1, device=device).item()
    except RuntimeError:
        return True
    return False
