"""Sharing: pytest-xdist's workers take the suite's longest tests first, one at a time, so that they end together.

One test of drawn geometries costs as much as ten others. By default xdist hands out runs of neighbours, and one worker
gets all of these at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import pytest

from pytest_attnconf.asked import names_suite

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Let a worker that is done get one more test, and not several: unless the user says how many."""
    if names_suite(config.args) and config.option.maxschedchunk is None:
        config.option.maxschedchunk = 1


def workers_of(config: pytest.Config) -> int:
    """Return how many workers share the tests that this process collects: 1 in a run without them."""
    return int(getattr(config, "workerinput", {}).get("workercount", 1))


def longest_first(tests: Sequence[T], costs: Sequence[float], workers: int) -> list[T]:
    """Return ``tests`` in the order in which ``workers`` are to take them.

    xdist begins with two neighbours for each worker: one of the longest, and one of the shortest.
    """
    order = sorted(range(len(tests)), key=lambda index: -costs[index])
    pairs = workers if len(order) >= 2 * workers else 0
    first, rest, last = order[:pairs], order[pairs : len(order) - pairs], order[len(order) - pairs :]
    begin = [index for pair in zip(first, reversed(last), strict=True) for index in pair]
    return [tests[index] for index in (*begin, *rest)]
