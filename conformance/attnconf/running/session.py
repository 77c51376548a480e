"""A session: this machine, the backends on it and how they run a case, and the cases of a profile and a seed."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from attnconf.backends.builds import BUILD_BUDGET
from attnconf.backends.demands import as_promised
from attnconf.backends.registry import Registry
from attnconf.cases.drawing.drawn import DrawnCases
from attnconf.errors import BackendUnavailableError, InvalidInputError
from attnconf.judging.admission import why_not_admitted
from attnconf.judging.memory import Memory
from attnconf.judging.result import CaseResult, LayerResult, Outcome
from attnconf.running.declined import Declined
from attnconf.running.own_cases import select
from attnconf.running.processes.asked import AskedBackend, declared_of
from attnconf.running.processes.isolation import START_SECONDS, IsolatedBackend
from attnconf.running.processes.messages import Spec
from attnconf.serving.setting import setting_of
from attnconf.serving.stories import tell

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from attnconf.backends.protocol import Backend, Unsupported
    from attnconf.cases.case import Case
    from attnconf.cases.drawing.families import Family
    from attnconf.cases.drawing.profiles import Profile
    from attnconf.cases.shape import KernelShape
    from attnconf.judging.checks.catalogue import CheckSelection
    from attnconf.platforms import Platform
    from attnconf.running.in_process import InProcess
    from attnconf.running.own_cases import Key, Selection
    from attnconf.running.processes.declaration import Declaration
    from attnconf.serving.stories import Stories

CASE_SECONDS = 600.0
"""How long one case may take before its process counts as hanging: the first one may compile kernels."""


@dataclass
class Session:
    """What one process needs to judge backends. Creating one starts no backend, and imports no torch.

    ``drawn`` are the cases of ``profile`` and ``seed``: the same for every backend, so that results can be compared.
    Kernels whose build costs more CPU seconds than ``build_budget`` are used only if they are built. ``isolate`` runs
    each backend in a process of its own (None: the installed ones), which gets ``start_seconds`` until the backend
    stands, and ``case_seconds`` for one case. What does not fit into ``memory`` is not run. ``required``
    are the layers that a policy wants by backend and model.
    """

    platform: Platform
    profile: Profile
    seed: int = 0
    build_budget: float = BUILD_BUDGET
    isolate: bool | None = None
    case_seconds: float = CASE_SECONDS
    start_seconds: float = START_SECONDS
    memory: Memory = field(default_factory=Memory)
    registry: Registry = field(default_factory=Registry)
    required: Mapping[tuple[str, str], Mapping[Key, int]] = field(default_factory=dict)
    _in_process: InProcess | None = field(default=None, init=False)
    _isolated: dict[str, IsolatedBackend] = field(default_factory=dict, init=False)
    _selections: dict[tuple[str, Family, str], Selection] = field(default_factory=dict, init=False)
    _stories: dict[str, Stories] = field(default_factory=dict, init=False)
    _declined: Declined = field(init=False)
    drawn: DrawnCases = field(init=False)

    def __post_init__(self) -> None:
        self.drawn = DrawnCases(self.profile, self.seed, accelerated=self._accelerated)
        self._declined = Declined(self.why_not_here, self._declared)

    @property
    def device(self) -> torch.device:
        """Where cases run."""
        return self._here.device

    def backend(self, name: str) -> Backend:
        """Return the backend ``name``, made once in this process. Raises what ``Registry.make`` raises.

        One that has a process of its own must have come up there before: what builds and measures needs it here.
        """
        if self.isolates(name):
            self.declaration(name)
        return self._here.backend(name)

    def declaration(self, name: str) -> Declaration:
        """Return what the backend ``name`` declares, where it runs. Raises as ``backend``."""
        if self.isolates(name):
            return self._isolated_backend(name).declaration()
        return self._here.declaration(name)

    def asked(self, name: str) -> AskedBackend | Backend:
        """Return the backend ``name``, to be asked where it runs for what it declares. Raises as ``backend``."""
        if not self.isolates(name):
            return self.backend(name)
        self.declaration(name)
        return AskedBackend(self._isolated_backend(name))

    def declared(self, name: str) -> Declaration | None:
        """Return what the backend ``name`` declares if it was made already; nothing is started for it."""
        isolated, here = self._isolated.get(name), self._in_process
        if isolated is not None:
            return isolated.declared
        return None if here is None else here.declarations.get(name)

    @property
    def known(self) -> dict[str, Declaration | str]:
        """What is known of isolated backends, by name: what they declare, or why they do not come up."""
        return {name: one.known for name, one in self._isolated.items() if one.known is not None}

    def adopt(self, known: Mapping[str, Declaration | str]) -> None:
        """Take what another process of this run knows of isolated backends, which are not started here to be asked."""
        for name, one in known.items():
            self._isolated_backend(name).adopt(one)

    def why_not(self, name: str) -> str | None:
        """Return why the backend ``name`` does not work here, or None."""
        try:
            self.declaration(name)
        except BackendUnavailableError as error:
            return str(error)
        return None

    def compiles(self, name: str) -> bool:
        """Return whether the backend ``name`` works here and compiles kernels ahead."""
        return self.why_not(name) is None and self.declaration(name).is_builder

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
            return _not_run(case, self.declaration(backend), f"the case {reason}")
        if self.isolates(backend):
            return self._isolated_backend(backend).run(case, checks, explain=explain, count_effects=count_effects)
        how = {"explain": explain, "count_effects": count_effects}
        return self._here.run(case, backend, checks, build_budget=self.build_budget, **how)

    def ask(self, case: Case, backend: str, checks: CheckSelection = "rotated", **how: bool) -> CaseResult:
        """Run a drawn case in the form that the backend promises to tolerate; ``how`` are options of ``run``.

        The case of the result is that form.
        """
        return self.run(as_promised(case, self.declaration(backend).promises), backend, checks, **how)

    def selection(self, backend: str, family: Family, model: str) -> Selection:
        """Return the cases of ``family`` for ``model`` that ``backend`` is asked: the shared ones, then its own.

        Raises what ``backend`` and ``DrawnCases.draws`` raise.
        """
        key = (backend, family, model)
        if key not in self._selections:
            wanted = {one: count for one, count in self.required.get((backend, model), {}).items() if one[1] == family}
            declines = partial(self._declined.reasons, backend, self.declaration(backend).promises)
            self._selections[key] = select(self.drawn.draws(family, model), declines, wanted)
        return self._selections[key]

    def executed(self, backend: str, cases: Sequence[Case]) -> list[tuple[int, ...]]:
        """Return the layers of each case that ``backend`` executes, as far as that is known before. Raises as above."""
        declined = self._declined.reasons(backend, self.declaration(backend).promises, cases)
        return [tuple(layer for layer, reason in enumerate(one) if reason is None) for one in declined]

    def stories(self, model: str) -> Stories:
        """Return what the machine of serving plays for ``model``: the same for every backend.

        Raises ``Violation`` where our own memory breaks a clause, and ``InvalidInputError`` for an unknown model.
        """
        if model not in self._stories:
            played = self.profile.played(model)
            self._stories[model] = tell(
                setting_of(model),
                events=played.events,
                batches=played.batches,
                seed=self.seed,
                accelerated=self._accelerated,
            )
        return self._stories[model]

    def _declared(self, backend: str, shapes: Sequence[KernelShape]) -> dict[KernelShape, Unsupported | None]:
        """Return what ``backend`` declares about each of ``shapes``. Raises what it raises."""
        with self._around(backend):
            return declared_of(self.asked(backend), shapes, self.platform)

    def probe(self, case: Case, backend: str) -> CaseResult:
        """Ask one backend for the layers of ``case`` that it declares unsupported (clause 20): where it runs cases."""
        if self.isolates(backend):
            return self._isolated_backend(backend).probe(case)
        return self._here.probe(case, backend)

    def refuse_too_large(self, case: Case, source: str, *, on_cpu: bool = False) -> None:
        """Raise ``InvalidInputError`` about ``source`` for a case that is too large here: see ``why_not_here``."""
        reason = self.why_not_here(case, on_cpu=on_cpu)
        if reason is not None:
            raise InvalidInputError(source, given=f"the case {reason}", allowed="a smaller case")

    def why_not_here(self, case: Case, *, on_cpu: bool = False) -> str | None:
        """Return why ``case`` is too large to be run here, in counts, in time or in memory, or None.

        ``on_cpu`` asks about the CPU of this machine, whether it has a GPU or not.
        """
        on_gpu = self._accelerated and not on_cpu
        return (
            self.memory.why_never(case)
            or why_not_admitted(case, accelerated=on_gpu)
            or self.memory.why_not(case, accelerated=on_gpu)
        )

    def isolates(self, name: str) -> bool:
        """Return whether the backend ``name`` runs in a process of its own.

        Where ``isolate`` is None, an installed one does. What a conftest registers does not: another process cannot
        import a conftest.
        """
        if self.isolate is not None:
            return self.isolate
        return self.registry.registered(name) is None

    def close(self) -> None:
        """End the backends' processes; what is asked later starts them anew."""
        for isolated in self._isolated.values():
            isolated.stop()

    def _isolated_backend(self, name: str) -> IsolatedBackend:
        if name not in self._isolated:
            self.registry.refuse_unknown(name)
            spec = Spec(name, self.platform, self.registry.registered(name), self.build_budget)
            found = IsolatedBackend(spec, seconds=self.case_seconds, start_seconds=self.start_seconds)
            self._isolated[name] = found
        return self._isolated[name]

    def _around(self, name: str) -> AbstractContextManager[None]:
        """Return what holds off the changes of the backend ``name`` to this process, where it is asked in this one."""
        return nullcontext() if self.isolates(name) else self._here.around(name)

    @property
    def _here(self) -> InProcess:
        """What runs in this process: a session whose backends are all isolated goes without, and without torch."""
        if self._in_process is None:
            from attnconf.running.in_process import InProcess

            self._in_process = InProcess(self.platform, self.registry)
        return self._in_process

    @property
    def _accelerated(self) -> bool:
        return self.platform.sm is not None


def _not_run(case: Case, backend: Declaration, reason: str) -> CaseResult:
    layers = tuple(LayerResult(layer=i, outcome=Outcome.NOT_RUN, reason=reason) for i in range(len(case.layers)))
    return CaseResult(case=case, backend=backend.name, evidence=backend.evidence, layers=layers)
