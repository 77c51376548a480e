"""Which tests there are: the suite's (backend, model) pairs, the same on every machine and every worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pytest_attnconf.state import KEY
from pytest_attnconf.suite_tests import MACHINE, SM100_BACKEND, VECTORS, SuiteTest, drawn_by, family_of
from pytest_attnconf.terminal import usage_error
from pytest_attnconf.workers.sharing import longest_first, workers_of

if TYPE_CHECKING:
    import pytest

    from attnconf.cases.drawing.families import Family
    from pytest_attnconf.state import State

_LONG_COSTS = 10
"""How many small cases a long one costs."""

_NOTHING = "nothing-to-ask"
"""Stands for an empty list of parameters: pytest would make a skipped test of one, or an error, as its ini says."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise the suite's tests over backends, models and recorded cases."""
    family = family_of(metafunc.module.__name__)
    if not family:
        return
    from attnconf.errors import AttnconfError

    state = metafunc.config.stash[KEY]
    try:
        values = _values(state, family, metafunc.fixturenames)
    except AttnconfError as error:
        raise usage_error(error) from None
    for name, options in values.items():
        metafunc.parametrize(name, options or (_NOTHING,))


def _values(state: State, family: str, names: list[str]) -> dict[str, tuple[str, ...]]:
    values: dict[str, tuple[str, ...]] = {}
    replaying = state.profile.name == "replay"
    if "backend" in names:
        values["backend"] = state.backends if family == VECTORS or not replaying else ()
    if "model" in names:
        values["model"] = _models(state, family)
    if "vector" in names:
        values["vector"] = tuple(state.replayed)
    if "sm100_family" in names:
        wanted = not state.option("backend") or SM100_BACKEND in state.option("backend")
        values["sm100_family"] = drawn_by(family) if wanted else ()
    return values


def _models(state: State, family: str) -> tuple[str, ...]:
    if family == MACHINE:
        return state.profile.machine_models
    return state.profile.targets(cast("Family", drawn_by(family)[0]))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the suite's tests that the profile gives nothing to ask, so that none of them shows as skipped."""
    empty = [item for item in items if _asks_nothing(item)]
    if empty:
        gone = set(map(id, empty))
        items[:] = [item for item in items if id(item) not in gone]
        config.hook.pytest_deselected(items=empty)
    workers = workers_of(config)
    tests = [(item, SuiteTest.of_item(item)) for item in items] if workers > 1 else []
    suite = [(item, test) for item, test in tests if test is not None]
    if suite:
        others = [item for item, test in tests if test is None]
        costs = [_cost(test, config.stash[KEY]) for _, test in suite]
        backends = [test.backend for _, test in suite]
        items[:] = [*longest_first([item for item, _ in suite], costs, backends, workers), *others]


def _cost(test: SuiteTest, state: State) -> float:
    """Return about how many small cases a test of the suite is worth."""
    from attnconf.cases.drawing.families import FAMILIES

    if test.family == MACHINE:
        return state.profile.played(test.model).batches
    if test.family not in FAMILIES:
        return 1.0
    accelerated = state.platform.sm is not None
    count = state.profile.count(test.family, test.model, accelerated=accelerated)
    return count + _LONG_COSTS * state.profile.long_count(test.family, accelerated=accelerated)


def _asks_nothing(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    return callspec is not None and any(value is _NOTHING for value in callspec.params.values())
