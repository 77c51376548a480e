"""The fixture ``attnconf_benchmark``: a right kernel alone under pytest-benchmark, with a clock of CUDA events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from pytest_attnconf.fixtures import make_judge
from pytest_attnconf.state import KEY

if TYPE_CHECKING:
    from attnconf.cases.case import Case

_ROUNDS = 50
_WARM_UPS = 5
_NOT_INSTALLED = 'attnconf_benchmark needs pytest-benchmark, which is not here; pip install "attnconf[speed]"'
_NO_GPU = "attnconf_benchmark times kernels on a GPU, and this machine has none"
_OFF = "pytest-benchmark is off in this run, as it is under pytest-xdist: processes that share a GPU time each other"


class Benchmark(Protocol):
    """What the fixture returns."""

    def __call__(self, case: Case, *, backend: str, layer: int = 0, rounds: int = _ROUNDS) -> None:
        """Judge ``case`` on ``backend``, then time ``rounds`` replays of a graph of launches of its ``layer``."""
        ...


@pytest.fixture
def attnconf_benchmark(request: pytest.FixtureRequest) -> Benchmark:
    """Judge and time a kernel: ``attnconf_benchmark(case, backend=...)``. A test that times nothing is ``not_run``.

    pytest-benchmark's options, JSON, comparison and histogram work on the results; a round is a graph of as many
    launches as ``extra_info`` says.
    """

    def run(case: Case, *, backend: str, layer: int = 0, rounds: int = _ROUNDS) -> None:
        from attnconf.judging.result import Outcome
        from attnconf.running.judge import NotJudged

        state = request.config.stash[KEY]
        if not request.config.pluginmanager.hasplugin("benchmark"):
            raise NotJudged(Outcome.NOT_RUN, _NOT_INSTALLED)
        if state.platform.sm is None:
            raise NotJudged(Outcome.NOT_RUN, _NO_GPU)
        from attnconf.running.bench import timing

        given = request.node.get_closest_marker("benchmark")
        options = {**(given.kwargs if given is not None else {}), "timer": timing.CudaTimer()}
        request.node.add_marker(pytest.mark.benchmark(**options), append=False)
        benchmark = request.getfixturevalue("benchmark")
        if benchmark.disabled:
            benchmark(lambda: None)  # else it warns that nobody used it
            raise NotJudged(Outcome.NOT_RUN, _OFF)
        make_judge(request.node).check(case, backend=backend)
        found = timing.time_case(case, layer, backend, state.platform)
        benchmark.extra_info.update(found.info)
        benchmark.pedantic(found.replay, rounds=rounds, warmup_rounds=_WARM_UPS, iterations=1)

    return run
