"""The order in which the suite's tests are collected for workers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from attnconf.cases.drawing.profiles import profile_named
from attnconf.platforms import Platform
from pytest_attnconf.collection import pytest_collection_modifyitems
from pytest_attnconf.state import KEY

if TYPE_CHECKING:
    import pytest


def item(module: str, **params: str) -> SimpleNamespace:
    params["backend"] = "triton"
    return SimpleNamespace(module=SimpleNamespace(__name__=module), callspec=SimpleNamespace(params=params))


MINE = item("tests.test_mine")
DECODE = item("attnconf.suite.test_decode", model="gemma4-e2b")
VECTOR = item("attnconf.suite.test_vectors", vector="one")
FREE = item("attnconf.suite.test_free", model="free")


def collected(**config: object) -> list[SimpleNamespace]:
    """Return the four items above in the order of a run with this ``config``."""
    items = [MINE, DECODE, VECTOR, FREE]
    state = SimpleNamespace(platform=Platform(), profile=profile_named("smoke"), backends=("triton",))
    given = SimpleNamespace(stash={KEY: state}, **config)
    pytest_collection_modifyitems(cast("pytest.Config", given), cast("list[pytest.Item]", items))
    return items


def test_for_workers_the_longest_tests_of_the_suite_come_first_and_other_tests_follow() -> None:
    assert collected(workerinput={"workercount": 2}) == [FREE, DECODE, VECTOR, MINE]


def test_without_workers_the_order_stays() -> None:
    assert collected() == [MINE, DECODE, VECTOR, FREE]
