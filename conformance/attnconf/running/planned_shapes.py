"""Planned shapes: what the cases of a run will ask of each backend, known before the first of them is run.

To find the cases that a backend gets in place of those that it declines, very many are drawn. So families and models
are shared out to processes. Each asks all backends of one family and model, whose shared cases are drawn once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from attnconf.backends.demands import as_promised, unmet_promise
from attnconf.cases.shape import KernelShape, kernel_shape
from attnconf.judging.checks.rotation import every, rotated
from attnconf.running.processes.crew import Crew
from attnconf.running.processes.engine import LostError
from attnconf.running.processes.watched import watched
from attnconf.running.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from attnconf.backends.protocol import Promises
    from attnconf.cases.case import Case
    from attnconf.cases.drawing.families import Family
    from attnconf.cases.drawing.profiles import Profile
    from attnconf.judging.checks.check import Outline
    from attnconf.judging.memory import Memory
    from attnconf.platforms import Platform
    from attnconf.running.own_cases import Key

PLANNED_CASES = 300
"""How many cases of a family and model are drawn to know its shapes."""

_FEWEST_SHARED = 8
"""So many families and models are worth starting processes for."""


def asked_shapes(
    case: Case, choose: Callable[[Case], tuple[Outline, ...]] = rotated, promises: Promises | None = None
) -> Iterator[KernelShape]:
    """Return the shapes of the layers of ``case``, and of the variants of it that its checks may run.

    A layer that demands more than ``promises``, if any are given, is not run.
    """
    checks = choose(case)
    for layer in range(len(case.layers)):
        if promises is not None and unmet_promise(case, layer, promises):
            continue
        shape = kernel_shape(case, layer)
        yield shape
        for check in checks:
            yield from check.shapes(shape)


def shapes_asked(
    session: Session,
    targets: Iterable[tuple[Family, str]],
    recorded: Iterable[Case],
    backend: str,
    *,
    played: Iterable[str] = (),
) -> Iterator[KernelShape]:
    """Yield the shapes that drawn cases of ``targets``, and ``recorded`` ones as they are, ask of ``backend``.

    So do the batches that the machine of serving plays for models ``played``. Nothing is run. Of the very many cases
    of a target the first ``PLANNED_CASES`` count: they draw nearly every shape.
    """
    promises = session.declaration(backend).promises
    for family, model in targets:
        for case in _planned(session, backend, family, model):
            yield from asked_shapes(as_promised(case, promises), promises=promises)
    for model in played:
        for batch in session.stories(model).batches[:PLANNED_CASES]:
            yield from asked_shapes(as_promised(batch.case, promises), promises=promises)
    for case in recorded:
        yield from asked_shapes(case, every, promises)


def _planned(session: Session, backend: str, family: Family, model: str) -> tuple[Case, ...]:
    """Return the cases of ``family`` that ``backend`` gets, or fewer of the shared ones where they are very many."""
    drawn, profile = session.drawn, session.profile
    if profile.count(family, model, accelerated=drawn.accelerated) <= PLANNED_CASES:
        return session.selection(backend, family, model).cases
    fewer = {**profile.examples, family: PLANNED_CASES}
    return replace(drawn, profile=replace(profile, examples=fewer, brief=False, gpu_times=1)).cases(family, model)


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What each process is told: the session in which it asks, and the backends that it makes for that."""

    platform: Platform
    profile: Profile
    seed: int
    memory: Memory
    required: Mapping[tuple[str, str], Mapping[Key, int]]
    case_seconds: float
    backends: tuple[str, ...]

    def session(self) -> Session:
        """Return the session of this process, which keeps what it has drawn for the next piece."""
        if not _kept or _kept[0][0] != self:
            session = Session(
                self.platform, self.profile, self.seed, memory=self.memory, required=self.required, isolate=False
            )
            _kept[:] = [(self, session)]
        return _kept[0][1]


_kept: list[tuple[_Asked, Session]] = []


@dataclass
class PlannedShapes:
    """The shapes that a run asks of ``backends``: by drawn cases of ``targets``, ``recorded`` ones, and batches played.

    ``played`` are the models of these. Where there is much to draw, up to ``processes`` do it, and ask backends that
    have processes of their own of what they declare. Where one of them comes to grief, it is drawn here instead, and
    what is wrong with the backend is said as ever.
    """

    session: Session
    backends: Sequence[str]
    targets: Sequence[tuple[Family, str]]
    recorded: Sequence[Case] = ()
    played: Sequence[str] = ()
    processes: int = 1
    _drawn: dict[str, frozenset[KernelShape]] | None = field(default=None, init=False)

    def of(self, backend: str) -> frozenset[KernelShape]:
        """Return the shapes that ``backend`` is asked. Raises as ``Session.declaration``."""
        if self._drawn is None:
            self._drawn = self._drawn_side_by_side()
        if backend not in self._drawn:
            return frozenset(shapes_asked(self.session, self.targets, self.recorded, backend, played=self.played))
        return self._drawn[backend].union(shapes_asked(self.session, (), self.recorded, backend))

    def _drawn_side_by_side(self) -> dict[str, frozenset[KernelShape]]:
        """Return the shapes of drawn and played cases for each backend; nothing where processes are of no use."""
        session = self.session
        names = tuple(name for name in self.backends if session.isolates(name) and session.compiles(name))
        pieces = [*self.targets, *((None, model) for model in self.played)]
        if not names or self.processes == 1 or len(pieces) < _FEWEST_SHARED:
            return {}
        asked = _Asked(
            platform=session.platform,
            profile=session.profile,
            seed=session.seed,
            memory=session.memory,
            required=session.required,
            case_seconds=session.case_seconds,
            backends=names,
        )
        found = dict.fromkeys(names, frozenset[KernelShape]())
        try:
            with Crew(min(self.processes, len(pieces)), served=True) as crew:
                for _, shapes in crew.map(partial(_shapes_of_piece, asked), pieces):
                    if isinstance(shapes, LostError):
                        return {}
                    found = {name: found[name] | shapes[name] for name in names}
        except Exception:  # noqa: BLE001 - a backend may raise anything, and is asked again here, where that is said
            return {}
        return found


def _shapes_of_piece(asked: _Asked, piece: tuple[Family | None, str]) -> dict[str, frozenset[KernelShape]]:
    """Return the shapes that a model's cases of one family, or played ones, ask of each backend, in this process."""
    family, model = piece
    session = asked.session()
    targets, played = ([], [model]) if family is None else ([(family, model)], [])
    with watched(f"what {' and '.join(asked.backends)} support", asked.case_seconds):
        return {name: frozenset(shapes_asked(session, targets, (), name, played=played)) for name in asked.backends}
