"""Sharing: which tests the workers begin with, that one follows at a time, and that it is of a backend they had."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from xdist import newhooks
from xdist.remote import Producer
from xdist.scheduler import LoadScheduling

from pytest_attnconf.state import KEY
from pytest_attnconf.workers.affinity import Affinity
from pytest_attnconf.workers.sharing import longest_first, pytest_xdist_make_scheduler, pytest_xdist_setupnodes

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

COSTS = {"a": 1.0, "b": 40.0, "c": 2.0, "d": 30.0, "e": 1.0, "f": 5.0, "g": 4.0}
BACKENDS = ("reference", "sglang:triton", "sglang:triton[window+1]", "triton")


def shared(workers: int, backends: str = "") -> str:
    return "".join(longest_first(list(COSTS), list(COSTS.values()), backends or [""] * len(COSTS), workers))


def test_each_worker_begins_with_a_long_test_and_a_short_one_and_the_rest_falls() -> None:
    assert shared(2) == "bedafgc"
    assert shared(3) == "bedafcg"


def test_each_worker_begins_with_one_backend_and_the_workers_with_all() -> None:
    assert shared(2, "xxxxyyy") == "bafedgc"
    assert shared(3, "xxxxyyy") == "bafedcg"
    assert shared(2, "xxxxxxy") == "begadfc"


def test_few_tests_for_many_workers_come_longest_first() -> None:
    assert shared(4) == "bdfgcae"
    assert shared(1) == "bedfgca"
    assert longest_first([], [], [], 4) == []


class Node:
    """What a scheduler knows of a worker."""

    def __init__(self) -> None:
        self.had: list[int] = []
        self.shutting_down = False
        self.gateway = SimpleNamespace(id=id(self))

    def send_runtest_some(self, indices: list[int]) -> None:
        self.had += indices

    def shutdown(self) -> None:
        self.shutting_down = True


def test_a_worker_goes_on_with_its_backend_while_there_are_tests_of_it() -> None:
    names = ["triton", "triton", "reference", "reference", *["reference"] * 4, *["triton"] * 4]
    tests = [f"test_decode.py::test_decode[{name}-m{index}]" for index, name in enumerate(names)]
    nodes = [Node(), Node()]
    config = SimpleNamespace(getoption=lambda _: 1, getvalue=lambda _: ["popen"] * 2)
    sharing = Affinity(cast("pytest.Config", config), None, BACKENDS)
    known = cast("list[WorkerController]", nodes)
    for node in known:
        sharing.add_node(node)
    for node in known:
        sharing.add_node_collection(node, tests)
    sharing.schedule()
    while sharing.has_pending:
        for node in known:
            for index in sharing.node2pending[node][:1]:
                sharing.mark_test_complete(node, index, duration=1.0)
    assert [[names[index] for index in node.had] for node in nodes] == [["triton"] * 6, ["reference"] * 6]
    assert nodes[0].had == sorted(nodes[0].had)
    assert all(node.shutting_down for node in nodes)


@pytest.mark.parametrize(
    ("dist", "args", "ours"),
    [("load", ["attnconf.suite"], True), ("each", ["attnconf.suite"], False), ("load", ["tests"], False)],
)
def test_only_the_suite_s_tests_under_xdist_s_default_are_shared_so(dist: str, args: list[str], *, ours: bool) -> None:
    config = SimpleNamespace(
        args=args,
        option=SimpleNamespace(dist=dist),
        stash={KEY: SimpleNamespace(backends=BACKENDS)},
        getoption=lambda _: 1,
        getvalue=lambda _: ["popen"],
    )
    made = pytest_xdist_make_scheduler(cast("pytest.Config", config), Producer("test"))
    assert isinstance(made, Affinity) == ours


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
    """The hooks and the option are xdist's: a release that renames one of them shows here."""
    for hook in (pytest_xdist_setupnodes, pytest_xdist_make_scheduler):
        assert hasattr(newhooks, hook.__name__)
    assert "maxschedchunk" in inspect.getsource(LoadScheduling.__init__)
