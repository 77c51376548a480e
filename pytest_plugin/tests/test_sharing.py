"""Sharing: which tests the workers begin with, and that one follows at a time."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import cast

import pytest
from xdist import newhooks
from xdist.scheduler import LoadScheduling

from attnconf.platforms import Platform
from attnconf.profiles import profile_named
from pytest_attnconf.collection import pytest_collection_modifyitems
from pytest_attnconf.sharing import longest_first, pytest_xdist_setupnodes
from pytest_attnconf.state import KEY

COSTS = {"a": 1.0, "b": 40.0, "c": 2.0, "d": 30.0, "e": 1.0, "f": 5.0, "g": 4.0}


def shared(workers: int) -> str:
    return "".join(longest_first(list(COSTS), list(COSTS.values()), workers))


def test_each_worker_begins_with_a_long_test_and_a_short_one_and_the_rest_falls() -> None:
    assert shared(2) == "bedafgc"
    assert shared(3) == "bedafcg"


def test_few_tests_for_many_workers_come_longest_first() -> None:
    assert shared(4) == "bdfgcae"
    assert shared(1) == "bedfgca"
    assert longest_first([], [], 4) == []


@pytest.mark.parametrize(
    ("args", "given", "wanted"),
    [(["attnconf.suite"], None, 1), (["attnconf.suite"], 5, 5), (["tests/test_mine.py"], None, None)],
    ids=["the suite", "the user says how many", "a run of other tests"],
)
def test_a_worker_that_is_done_gets_one_more_test(args: list[str], given: int | None, wanted: int | None) -> None:
    config = SimpleNamespace(args=args, option=SimpleNamespace(maxschedchunk=given))
    pytest_xdist_setupnodes(cast("pytest.Config", config))
    assert config.option.maxschedchunk == wanted


def test_xdist_takes_it_for_its_own() -> None:
    """The hook and the option are xdist's: a release that renames one of them shows here."""
    assert hasattr(newhooks, pytest_xdist_setupnodes.__name__)
    assert "maxschedchunk" in inspect.getsource(LoadScheduling.__init__)


def test_the_suite_s_tests_are_put_in_that_order_for_workers_and_other_tests_follow() -> None:
    def item(module: str, **params: str) -> SimpleNamespace:
        return SimpleNamespace(module=SimpleNamespace(__name__=module), callspec=SimpleNamespace(params=params))

    suite = "attnconf.suite.test_"
    decode, free = item(f"{suite}decode", model="gemma4-e2b"), item(f"{suite}free", model="free")
    mine, vector = item("tests.test_mine"), item(f"{suite}vectors", vector="one")
    state = SimpleNamespace(platform=Platform(), profile=profile_named("smoke"))
    config = SimpleNamespace(stash={KEY: state}, workerinput={"workercount": 2})
    items = [mine, decode, vector, free]
    pytest_collection_modifyitems(cast("pytest.Config", config), cast("list[pytest.Item]", items))
    assert items == [free, decode, vector, mine]
    alone = SimpleNamespace(stash={KEY: state})
    items = [mine, decode, vector, free]
    pytest_collection_modifyitems(cast("pytest.Config", alone), cast("list[pytest.Item]", items))
    assert items == [mine, decode, vector, free]
