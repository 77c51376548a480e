"""A session: this machine, the backends on it, a profile and a seed; it explores spaces and replays cases."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from attnconf.backends.builds import BUILD_BUDGET
from attnconf.backends.demands import within
from attnconf.backends.registry import Registry
from attnconf.cases.drawing.draws import Draws
from attnconf.cases.drawing.families import space_of
from attnconf.cases.drawing.lengths import shortened
from attnconf.cases.drawing.space import Space
from attnconf.cases.drawing.strategies import free_layers
from attnconf.errors import BackendUnavailableError
from attnconf.judging.checks.catalogue import SELECTIONS
from attnconf.judging.checks.refusal import probe_case
from attnconf.judging.memory import Memory, let_go
from attnconf.judging.result import CaseResult, LayerResult, Outcome
from attnconf.judging.run import run_case
from attnconf.running.explore import SHRINK_SECONDS, Exploration, explore
from attnconf.running.processes.isolation import IsolatedBackend, Spec, get_ready

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.backends.protocol import Backend
    from attnconf.cases.case import Case
    from attnconf.cases.drawing.families import Family
    from attnconf.cases.drawing.profiles import Profile
    from attnconf.judging.checks.catalogue import CheckSelection
    from attnconf.platforms import Platform

    Asked = Callable[[Case], CaseResult]

CASE_SECONDS = 600.0
"""How long one case may take before its process counts as hanging: the first one may compile kernels."""

REFUSAL_EXAMPLES = 20
"""How many cases are drawn to find shapes that a backend declares unsupported."""

_REFUSALS = Space(name="refusal", layers=free_layers(), max_kv_len=64)


@dataclass(frozen=True)
class _Manner:
    """How an exploration asks its cases: by ``run``, while it shrinks a failure by ``rerun``, then by ``explain``."""

    run: Asked
    rerun: Asked
    explain: Asked
    shrink_seconds: float = SHRINK_SECONDS


@dataclass
class Session:
    """What one process needs to judge backends. Creating one settles torch's threads; it starts no backend.

    Kernels whose build costs more CPU seconds than ``build_budget`` are used only if they are built. ``isolate`` runs
    each backend in a process of its own (None: installed ones on a GPU), which gets ``case_seconds`` for one case. What
    does not fit into ``memory`` is not run.
    """

    platform: Platform
    profile: Profile
    seed: int = 0
    build_budget: float = BUILD_BUDGET
    isolate: bool | None = None
    case_seconds: float = CASE_SECONDS
    memory: Memory = field(default_factory=Memory)
    registry: Registry = field(default_factory=Registry)
    _backends: dict[str, Backend | BackendUnavailableError] = field(default_factory=dict)
    _isolated: dict[str, IsolatedBackend] = field(default_factory=dict)
    _drawn: dict[str, Draws] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        # Cases are many and small: a pool of threads an operation costs more than it gives, and starves its neighbours.
        torch.set_num_threads(1)

    @property
    def device(self) -> torch.device:
        """Where cases run."""
        return torch.device("cpu" if self.platform.sm is None else "cuda")

    def backend(self, name: str) -> Backend:
        """Return the backend ``name``, made once. Raises what ``Registry.make`` raises."""
        if name not in self._backends:
            try:
                self._backends[name] = self.registry.make(name, self.platform)
            except BackendUnavailableError as error:
                self._backends[name] = error
        found = self._backends[name]
        if isinstance(found, BackendUnavailableError):
            raise found
        return found

    def why_not(self, name: str) -> str | None:
        """Return why the backend ``name`` does not work here, or None."""
        try:
            self.backend(name)
        except BackendUnavailableError as error:
            return str(error)
        return None

    def run(
        self,
        case: Case,
        backend: str,
        checks: CheckSelection = "rotated",
        *,
        explain: bool = True,
        count_effects: bool = True,
    ) -> CaseResult:
        """Run one case on one backend, in a process of the backend's own where ``isolate`` says so.

        ``explain`` and ``count_effects`` are those of ``run_case``.
        """
        reason = self.why_not_here(case)
        if reason is not None:
            found = self.backend(backend)
            return _not_run(case, found, f"the case {reason}")
        if self.isolates(backend):
            return self._isolated_backend(backend).run(case, checks, explain=explain, count_effects=count_effects)
        result = run_case(
            case,
            self.backend(backend),
            self.platform,
            self.device,
            choose=SELECTIONS[checks],
            build_budget=self.build_budget,
            explain=explain,
            count_effects=count_effects,
        )
        let_go(self.device)
        return result

    def ask(self, case: Case, backend: str, checks: CheckSelection = "rotated", **how: bool) -> CaseResult:
        """Run a drawn case, as far as the backend promises to bear it, and ``how`` as ``run`` takes it.

        The result has the case that was run.
        """
        return self.run(within(case, self.backend(backend).promises), backend, checks, **how)

    def why_not_here(self, case: Case) -> str | None:
        """Return why this machine's memory does not allow ``case``, or None."""
        return self.memory.why_not(case, accelerated=self._accelerated)

    def isolates(self, name: str) -> bool:
        """Return whether the backend ``name`` runs in a process of its own.

        Unless told, an installed one does where a CUDA error would take this process down. What a conftest registers
        stays: another process cannot import a conftest.
        """
        if self.isolate is not None:
            return self.isolate
        return self.platform.sm is not None and self.registry.registered(name) is None

    def get_ready(self) -> None:
        """Begin to import what the backends' processes will share, while this process goes on with something else."""
        if any(map(self.isolates, self.registry.names)):
            get_ready()

    def close(self) -> None:
        """End the backends' processes."""
        for isolated in self._isolated.values():
            isolated.stop()
        self._isolated.clear()

    def _isolated_backend(self, name: str) -> IsolatedBackend:
        if name not in self._isolated:
            backend = self.backend(name)
            spec = Spec(name, self.platform, self.registry.registered(name), self.build_budget)
            self._isolated[name] = IsolatedBackend(
                spec, evidence=backend.evidence, shown_as=backend.name, seconds=self.case_seconds
            )
        return self._isolated[name]

    def explore(  # noqa: PLR0913 - what is asked of whom, and how a failure is shrunk
        self,
        family: Family,
        model: str,
        backend: str,
        run: Asked | None = None,
        *,
        rerun: Asked | None = None,
        shrink_seconds: float = SHRINK_SECONDS,
    ) -> Exploration:
        """Run the profile's number of cases of one family and model on one backend (or by ``run``).

        The long ones come last, and not at all once a shorter one has failed. While a failure is shrunk, ``rerun`` is
        asked: without it the backend, with every check, or ``run``. Only the smallest failure is explained.
        """
        if run is None:
            manner = _Manner(
                lambda case: self.ask(case, backend, explain=False),
                lambda case: self.ask(case, backend, "all", explain=False),
                lambda case: self.ask(case, backend, "all"),
                shrink_seconds,
            )
        else:
            manner = _Manner(run, rerun or run, rerun or run, shrink_seconds)
        found = self._explore(family, model, manner)
        longer = Exploration() if found.failure is not None else self._explore_long(family, model, manner)
        return Exploration([*found.results, *longer.results], found.failure or longer.failure)

    def cases(self, family: Family, model: str) -> tuple[Case, ...]:
        """Return the cases that ``explore`` runs as long as none fails; nothing is run."""
        return tuple(result.case for result in self.explore(family, model, "", _unasked).results)

    def long_cases(self, family: Family, model: str) -> tuple[Case, ...]:
        """Return the long cases that ``explore`` adds; nothing is run."""
        return tuple(
            result.case for result in self._explore_long(family, model, _Manner(_unasked, _unasked, _unasked)).results
        )

    def probe(self, case: Case, backend: str) -> CaseResult:
        """Ask one backend for the layers of ``case`` that it declares unsupported (clause 20): where it runs cases."""
        if self.isolates(backend):
            return self._isolated_backend(backend).probe(case)
        return probe_case(case, self.backend(backend), self.platform, self.device)

    def explore_refusals(
        self,
        backend: str,
        run: Asked | None = None,
        *,
        rerun: Asked | None = None,
        shrink_seconds: float = SHRINK_SECONDS,
    ) -> Exploration:
        """Probe one backend (or ``run``) with small cases of any shape; ``rerun`` as for ``explore``."""
        return explore(
            self._draws("refusal", lambda: Draws(_REFUSALS, self.seed, REFUSAL_EXAMPLES)),
            run or (lambda case: self.probe(case, backend)),
            rerun=rerun,
            shrink_seconds=shrink_seconds,
        )

    def refusal_cases(self) -> tuple[Case, ...]:
        """Return the cases that ``explore_refusals`` asks as long as none fails; nothing is asked."""
        return tuple(result.case for result in self.explore_refusals("", _unasked).results)

    def _explore_long(self, family: Family, model: str, manner: _Manner) -> Exploration:
        count = self.profile.long_count(family, accelerated=self._accelerated)
        return self._explore(family, model, manner, long=count) if count else Exploration()

    def _explore(self, family: Family, model: str, manner: _Manner, *, long: int = 0) -> Exploration:
        """Run one campaign: of short cases, or of ``long`` long ones."""
        # The same cases for every backend: their results can be laid side by side.
        name = f"{self.seed}/{family}/{model}{'/long' if long else ''}"

        def draws() -> Draws:
            space = space_of(
                family,
                model,
                accelerated=self._accelerated,
                max_kv_len=self.profile.max_kv_len,
                long_kv_len=self.profile.long_kv_len if long else 0,
                few_builds=self.profile.few_builds,
            )
            return Draws(space, zlib.crc32(name.encode()), long or self._count(family, model))

        return explore(
            self._draws(name, draws),
            manner.run,
            rerun=manner.rerun,
            explain=manner.explain,
            smaller=shortened if long else lambda _: (),
            shrink_seconds=manner.shrink_seconds,
        )

    def _draws(self, name: str, make: Callable[[], Draws]) -> Draws:
        """Return a campaign's draws, made once: every backend is asked the same cases."""
        if name not in self._drawn:
            self._drawn[name] = make()
        return self._drawn[name]

    @property
    def _accelerated(self) -> bool:
        return self.platform.sm is not None

    def _count(self, family: Family, model: str) -> int:
        return self.profile.count(family, model, accelerated=self._accelerated)


def _not_run(case: Case, backend: Backend, reason: str) -> CaseResult:
    layers = tuple(LayerResult(layer=i, outcome=Outcome.NOT_RUN, reason=reason) for i in range(len(case.layers)))
    return CaseResult(case=case, backend=backend.name, evidence=backend.evidence, layers=layers)


def _unasked(case: Case) -> CaseResult:
    """Return what comes of a case that is only drawn."""
    return CaseResult(case=case, backend="", evidence="kernel", layers=())
