"""Planned shapes: the same ones whoever draws them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from attnconf.cases.drawing.families import FAMILIES
from attnconf.cases.drawing.profiles import profile_named
from attnconf.platforms import simulate
from attnconf.running import planned_shapes
from attnconf.running.planned_shapes import PlannedShapes
from attnconf.running.processes.engine import LostError
from attnconf.running.session import Session

if TYPE_CHECKING:
    from attnconf.cases.shape import KernelShape

BACKENDS = ("reference", "triton")
"""The first compiles nothing, so nothing is planned for it."""


@pytest.fixture
def session() -> Iterator[Session]:
    """A session on a GPU that is not here, whose backends have processes of their own."""
    found = Session(simulate("9.0"), profile_named("smoke").of(("gemma4-e2b",)), isolate=True)
    yield found
    found.close()


def planned(session: Session, processes: int) -> PlannedShapes:
    targets = [(family, model) for family in FAMILIES for model in session.profile.targets(family)]
    cases = session.drawn.cases("decode", "gemma4-e2b")[:1]
    return PlannedShapes(session, BACKENDS, targets, cases, ("free",), processes=processes)


@pytest.fixture
def shapes(session: Session) -> frozenset[KernelShape]:
    """What is asked of ``triton``, drawn in this process."""
    return planned(session, 1).of("triton")


def test_shapes_that_several_processes_draw_are_those_of_one(session: Session, shapes: frozenset[KernelShape]) -> None:
    several = planned(session, 2)
    assert several.of("triton") == shapes
    assert set(several._drawn or ()) == {"triton"}


def lost(*_: object, **__: object) -> Iterator[tuple[int, LostError]]:
    yield 0, LostError("it died")


def broken(*_: object, **__: object) -> Iterator[tuple[int, LostError]]:
    raise ValueError("a backend of somebody else's")


@pytest.mark.parametrize("map_", [lost, broken])
def test_what_processes_do_not_draw_is_drawn_here(
    session: Session, shapes: frozenset[KernelShape], map_: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planned_shapes.Crew, "map", map_)
    again = planned(session, 2)
    assert again.of("triton") == shapes
    assert again._drawn == {}
