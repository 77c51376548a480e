"""Sharing: how pytest-xdist's workers share the suite's tests, so that they end together and start few processes.

One test of drawn geometries costs as much as ten others, and by default xdist hands out runs of neighbours: one worker
would get all of these at the end. So the longest tests come first, one at a time. And a worker that has started a
backend's process, with its imports and its CUDA context, goes on with tests of that backend while there are any.
"""

from __future__ import annotations

from itertools import cycle, islice
from typing import TYPE_CHECKING, TypeVar

import pytest

from pytest_attnconf.state import KEY
from pytest_attnconf.suite_tests import names_suite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xdist.remote import Producer
    from xdist.scheduler import LoadScheduling

T = TypeVar("T")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Let a worker that is done get one more test, and not several: unless the user says how many."""
    if names_suite(config.args) and config.option.maxschedchunk is None:
        config.option.maxschedchunk = 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScheduling | None:
    """Let the suite's tests go to workers that know their backend, where the user asks for no other distribution."""
    if config.option.dist != "load" or not names_suite(config.args):
        return None
    from pytest_attnconf.workers.affinity import Affinity

    return Affinity(config, log, config.stash[KEY].backends)


def workers_of(config: pytest.Config) -> int:
    """Return how many workers share the tests that this process collects: 1 in a run without them."""
    return int(getattr(config, "workerinput", {}).get("workercount", 1))


def longest_first(tests: Sequence[T], costs: Sequence[float], backends: Sequence[str], workers: int) -> list[T]:
    """Return ``tests`` in the order in which ``workers`` are to take them: each has a cost and a backend.

    xdist begins with two neighbours for each worker: the longest test that is left of one backend, and its shortest,
    of one backend after the other.
    """
    left = sorted(range(len(tests)), key=lambda index: -costs[index])
    begin: list[int] = []
    if len(left) >= 2 * workers:
        for backend in islice(cycle(dict.fromkeys(backends)), workers):
            of_backend = {index for index in left if backends[index] == backend}
            begin += [_take(left, 0, of_backend), _take(left, -1, of_backend)]
    return [tests[index] for index in (*begin, *left)]


def _take(left: list[int], end: int, preferred: set[int]) -> int:
    """Remove the first (0) or last (-1) of the ``preferred`` from ``left``, or of all where none is there."""
    index = ([index for index in left if index in preferred] or left)[end]
    left.remove(index)
    return index
