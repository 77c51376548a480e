"""The process of one backend: it imports, makes and asks the backend, and answers its caller through a pipe.

What it answers is a pair of a word of ``Answer`` and what that word needs. Both outputs of the process go to a pipe of
their own: what a backend prints is part of nobody's report.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch

from attnconf.backends.protocol import Imports
from attnconf.backends.registry import Registry
from attnconf.errors import AttnconfError, one_line
from attnconf.judging.checks.catalogue import SELECTIONS
from attnconf.judging.checks.refusal import probe_case
from attnconf.judging.device_memory import release_cached_memory
from attnconf.judging.result import Outcome
from attnconf.judging.run import run_case
from attnconf.judging.surroundings import Surroundings
from attnconf.running.processes.declaration import Declaration, declaration_of
from attnconf.running.processes.last_words import redirect_output
from attnconf.running.processes.messages import Answer, Call
from attnconf.running.processes.settled import settle

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from attnconf.backends.protocol import Backend
    from attnconf.cases.case import Case
    from attnconf.judging.checks.catalogue import CheckSelection
    from attnconf.judging.result import CaseResult
    from attnconf.running.processes.messages import Options, Question, Spec

_SET_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of linux/prctl.h."""


def serve(pipe: Connection, output: Connection, pickled: bytes, environment: dict[str, str]) -> None:
    """Answer cases until the pipe closes or the device is lost. ``pickled`` is a ``Spec``."""
    _end_with_parent()
    os.setsid()  # a signal to its group is meant for what it started, and no caller's
    os.environ.clear()
    os.environ.update(environment)
    os.set_inheritable(pipe.fileno(), False)  # noqa: FBT003 - it closes if another program takes this one's place
    redirect_output(output)
    settle()
    pipe.send((Answer.BEGUN, None))
    try:
        spec: Spec = pickle.loads(pickled)  # noqa: S301 - its caller's
    except Exception as error:  # noqa: BLE001 - the import of the factory's module may raise anything
        pipe.send((Answer.UNREACHABLE, one_line(error)))
        return
    served = _Served(spec)
    try:
        served.start()
        declaration = pickle.dumps((Answer.DECLARED, served.declaration))  # what pipe.send sends, but it raises here
    except AttnconfError as error:
        pipe.send((Answer.UNAVAILABLE, str(error)))
        return
    except Exception as error:  # noqa: BLE001 - what it declares may be anything
        pipe.send((Answer.UNAVAILABLE, _not_up(spec, error)))
        return
    with suppress(EOFError):  # whoever closes the pipe asks no more
        pipe.send_bytes(declaration)
        served.import_library()
        while True:
            question: Question = pipe.recv()
            answer = served.answer(question)
            pipe.send(answer)
            if answer[0] is Answer.LAST or answer[0] is Answer.UNAVAILABLE:
                return


def _not_up(spec: Spec, error: Exception) -> str:
    return f"backend {spec.name} does not come up: {one_line(error)}"


def _end_with_parent() -> None:
    """Let Linux end this process with its server, which ends with its caller: a backend that hangs would stay."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)


class _Served:
    """The backend of this process, and how it is asked."""

    backend: Backend

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._device = torch.device("cpu" if spec.platform.sm is None else "cuda")
        self._surroundings = Surroundings()
        self._registry = Registry()
        self._is_open = False

    @property
    def declaration(self) -> Declaration:
        """What the backend declares."""
        return declaration_of(self.backend, self._registry.origin(self._spec.name))

    def start(self) -> None:
        """Make the backend. Raises what ``Registry.make`` raises."""
        spec, registry = self._spec, self._registry
        if spec.factory is not None:
            registry.register(spec.name, spec.factory)
        with self._surroundings.of_torch():
            self.backend = registry.make(spec.name, spec.platform)

    def import_library(self) -> None:
        """Let the backend import its library where it will be needed, before the first question comes."""
        if self._device.type == "cuda" and isinstance(self.backend, Imports):
            with suppress(Exception), self._surroundings.of_torch():
                self.backend.import_library()

    def answer(self, question: Question) -> tuple[Answer, Any]:
        """Return what comes of a question, and say whether the device is still there."""
        if isinstance(question, Call):
            return self._called(question)
        if not self._is_open:
            try:  # no case's time pays for a CUDA context, and who only asks what is declared needs none
                torch.zeros(1, device=self._device).item()
            except Exception as error:  # noqa: BLE001 - a driver may raise anything
                return Answer.UNAVAILABLE, _not_up(self._spec, error)
            self._is_open = True
        result = self._judged(*question)
        crashed = any(layer.outcome is Outcome.CRASHED for layer in result.layers)
        if crashed and self._device.type == "cuda" and _is_lost(self._device):
            return Answer.LAST, result
        release_cached_memory(self._device)
        return Answer.RESULT, result

    def _judged(self, case: Case, checks: CheckSelection | None, how: Options) -> CaseResult:
        if checks is None:
            return probe_case(case, self.backend, self._spec.platform, self._device, self._surroundings)
        return run_case(
            case,
            self.backend,
            self._spec.platform,
            self._device,
            choose=SELECTIONS[checks],
            build_budget=self._spec.build_budget,
            surroundings=self._surroundings,
            **how,
        )

    def _called(self, call: Call) -> tuple[Answer, Any]:
        try:
            with self._surroundings.of_torch():
                values = [getattr(self.backend, call.method)(*arguments) for arguments in call.arguments]
            pickle.dumps(values)
        except Exception as error:  # noqa: BLE001 - a backend may raise anything
            return Answer.RAISED, one_line(error)
        return Answer.RETURNED, values


def _is_lost(device: torch.device) -> bool:
    try:
        torch.cuda.synchronize(device)
        _ = torch.zeros(1, device=device).item()
    except RuntimeError:
        return True
    return False
