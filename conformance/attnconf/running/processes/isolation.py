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

import pickle
import time
import weakref
from typing import TYPE_CHECKING, Any, Unpack

from attnconf.errors import BackendUnavailableError
from attnconf.judging.result import CaseResult, LayerResult, Outcome
from attnconf.running.processes.backend_process import BackendProcess, NoProcessError
from attnconf.running.processes.declaration import Declaration
from attnconf.running.processes.messages import Answer, Call, Options, Spec
from attnconf.running.processes.wire import UnreadableError

if TYPE_CHECKING:
    from attnconf.cases.case import Case
    from attnconf.judging.checks.catalogue import CheckSelection

_SERVER_SECONDS = 300.0
"""How long the server may take to import torch, cold, before a process of its counts as hanging."""

START_SECONDS = 300.0
"""How long a backend may take until it stands: the import of a kernel library, cold."""


class UnreachableFactoryError(BackendUnavailableError):
    """A factory that another process cannot import: the user's to change, and not this machine's."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(
            f"backend {name} cannot run in a process of its own, which cannot import its factory ({why}): register a"
            " function of an installed module, or let --attnconf-isolate=off run it here"
        )


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
        self._process: BackendProcess | None = None
        self._dropped: weakref.finalize[[], IsolatedBackend] | None = None
        self.starts = 0

    def declaration(self) -> Declaration:
        """Return what the backend declares there. Raises ``BackendUnavailableError`` where it does not come up."""
        if self._declaration is None:
            self._connected()
        if self._declaration is None:
            message = f"the process of backend {self._spec.name} declared nothing"
            raise BackendUnavailableError(message)
        return self._declaration

    @property
    def declared(self) -> Declaration | None:
        """What the backend declares, if it came up already."""
        return self._declaration

    @property
    def known(self) -> Declaration | str | None:
        """What the backend declares, or why it does not come up; None if it was not asked."""
        return self._declaration or (None if self._broken is None else str(self._broken))

    def adopt(self, known: Declaration | str) -> None:
        """Take what another process of this run knows of the backend, which is not started here to be asked again."""
        if isinstance(known, Declaration):
            self._declaration, self._broken = known, None
        elif self._declaration is None:
            self._broken = BackendUnavailableError(known)

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
            process = self._connected()
        except BackendUnavailableError as error:
            if self._declaration is None:
                raise
            return self._lost(case, f"it does not come up again: {error}", "no restart", started)
        try:
            kind, answer = process.ask((case, checks, how), self._seconds)
        except TimeoutError:
            process.end(tell=True)
            why = f"no answer within {self._seconds:g} s: the process was ended"
            return self._lost(case, why, "no answer", started)
        except (EOFError, OSError):
            status, end = process.ended()
            return self._lost(case, f"the process {end}", status, started)
        except UnreadableError as error:
            self.stop()
            return self._lost(case, f"its answer is no result: {error}", "no result", started)
        if kind is Answer.UNAVAILABLE:
            raise self._refuse(answer)
        if kind is Answer.LAST:
            self.stop()
        result: CaseResult = answer
        return result

    def call(self, call: Call) -> Any:  # noqa: ANN401 - as the method returns
        """Return what the backend declares there. Raises ``BackendUnavailableError`` where it does not."""
        asked, process = f"{self._whose}, asked for {call.method}", self._connected()
        try:
            kind, answer = process.ask(call, self._seconds)
        except TimeoutError:
            process.end(tell=True)
            raise self._refuse(f"{asked}: no answer within {self._seconds:g} s") from None
        except (EOFError, OSError):
            raise self._refuse(f"{asked}: {process.ended()[1]}") from None
        except UnreadableError as error:
            raise self._refuse(f"{asked}: its answer cannot be read: {error}") from None
        if kind is Answer.RAISED:
            raise BackendUnavailableError(f"backend {self._spec.name}, asked for {call.method}: {answer}")
        return answer

    def stop(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if self._dropped is not None:
            self._dropped.detach()
        if process is not None:
            process.end()

    def _connected(self) -> BackendProcess:
        """Return the process in which the backend stands. Raises ``BackendUnavailableError`` if it does not."""
        if self._process is not None and self._process.is_alive:
            return self._process
        if self._broken is not None:
            raise self._broken
        self.stop()
        try:
            self._process = process = BackendProcess(self._pickled)
        except NoProcessError as error:
            why = (
                f"no process can be started for backend {self._spec.name} ({error}); --attnconf-isolate=off needs none"
            )
            raise self._refuse(why) from None
        self._dropped = weakref.finalize(self, process.end)  # also where nobody closes a session
        self.starts += 1
        kind, said = self._heard(process, _SERVER_SECONDS)
        if kind is Answer.BEGUN:
            kind, said = self._heard(process, self._start_seconds)
        if kind is Answer.UNREACHABLE:
            self.stop()
            self._broken = UnreachableFactoryError(self._spec.name, said)
            raise self._broken
        if kind is not Answer.DECLARED:
            raise self._refuse(said)
        self._declaration = said
        return process

    def _heard(self, process: BackendProcess, seconds: float) -> tuple[Answer, Any]:
        """Return what the process says within ``seconds`` of its start."""
        try:
            return process.hear(seconds)
        except TimeoutError:
            process.end(tell=True)
            raise self._refuse(f"{self._whose}: did not start within {seconds:g} s") from None
        except (EOFError, OSError):
            raise self._refuse(f"{self._whose}: {process.ended(' at its start')[1]}") from None
        except UnreadableError as error:
            raise self._refuse(f"{self._whose}: what it declares cannot be read: {error}") from None

    def _refuse(self, why: str) -> BackendUnavailableError:
        """End the process for good."""
        self.stop()
        self._broken = BackendUnavailableError(why)
        return self._broken

    @property
    def _whose(self) -> str:
        return f"the process of backend {self._spec.name}"

    def _lost(self, case: Case, why: str, error: str, started: float) -> CaseResult:
        layers = tuple(
            LayerResult(layer=index, outcome=Outcome.CRASHED, reason=why, error=error)
            for index in range(len(case.layers))
        )
        known = self.declaration()
        seconds = time.perf_counter() - started
        return CaseResult(case=case, backend=known.name, evidence=known.evidence, layers=layers, seconds=seconds)
