"""In process: backends that run in this process, and are judged in it. It needs torch, so only they load it."""

from __future__ import annotations

import sys
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING

import torch

from attnconf.errors import BackendUnavailableError
from attnconf.judging.checks.catalogue import SELECTIONS
from attnconf.judging.checks.refusal import probe_case
from attnconf.judging.device_memory import release_cached_memory
from attnconf.judging.run import run_case
from attnconf.judging.surroundings import Surroundings
from attnconf.running.processes.declaration import Declaration, declaration_of
from attnconf.running.processes.settled import settle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attnconf.backends.protocol import Backend
    from attnconf.backends.registry import Registry
    from attnconf.cases.case import Case
    from attnconf.judging.checks.catalogue import CheckSelection
    from attnconf.judging.result import CaseResult
    from attnconf.platforms import Platform


class InProcess:
    """The backends of ``registry`` that are made in this process. Creating one sets torch to one thread.

    What a backend changes of this process is undone when it is not asked.
    """

    def __init__(self, platform: Platform, registry: Registry) -> None:
        self._platform, self._registry = platform, registry
        self.device = torch.device("cpu" if platform.sm is None else "cuda")
        self.backends: dict[str, Backend | BackendUnavailableError] = {}
        self.declarations: dict[str, Declaration] = {}
        self._surroundings: dict[str, Surroundings] = {}
        settle()

    def backend(self, name: str) -> Backend:
        """Return the backend ``name``, made once. Raises what ``Registry.make`` raises."""
        if name not in self.backends:
            try:
                with self.around(name), redirect_stdout(sys.stderr):
                    self.backends[name] = self._registry.make(name, self._platform)
            except BackendUnavailableError as error:
                self.backends[name] = error
        found = self.backends[name]
        if isinstance(found, BackendUnavailableError):
            raise found
        return found

    def declaration(self, name: str) -> Declaration:
        """Return what the backend ``name`` declares. Raises as ``backend``."""
        if name not in self.declarations:
            backend = self.backend(name)
            with self.around(name):
                self.declarations[name] = declaration_of(backend, self._registry.origin(name))
        return self.declarations[name]

    def run(self, case: Case, name: str, checks: CheckSelection, *, build_budget: float, **how: bool) -> CaseResult:
        """Run one case on the backend ``name``; ``how`` are ``explain`` and ``count_effects`` of ``run_case``."""
        backend = self.backend(name)
        with self.around(name):
            result = run_case(
                case,
                backend,
                self._platform,
                self.device,
                choose=SELECTIONS[checks],
                build_budget=build_budget,
                surroundings=self._surroundings_of(name),
                **how,
            )
        release_cached_memory(self.device)
        return result

    def probe(self, case: Case, name: str) -> CaseResult:
        """Ask the backend ``name`` for the layers of ``case`` that it declares unsupported (clause 20)."""
        backend = self.backend(name)
        with self.around(name):
            return probe_case(case, backend, self._platform, self.device, self._surroundings_of(name))

    @contextmanager
    def around(self, name: str) -> Iterator[None]:
        """Hold off the changes of the backend ``name`` to this process while it is asked."""
        with self._surroundings_of(name).of_process():
            yield

    def _surroundings_of(self, name: str) -> Surroundings:
        return self._surroundings.setdefault(name, Surroundings())
