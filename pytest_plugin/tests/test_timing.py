"""The fixture that times: right first, not_run where nothing can be timed, and pytest-benchmark's own results."""

from __future__ import annotations

import json

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests are of runs without workers, whatever runs the tests."""
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID"):
        monkeypatch.delenv(name, raising=False)


TEST = """
import pytest
from attnconf import Case, Layer, Request

CASE = Case(
    mode="decode",
    layers=(Layer(kind="sliding", window_left=7, num_qo_heads=2, num_kv_heads=1, head_dim=16, sm_scale=0.25),),
    requests=(Request(prefix_len=20), Request(prefix_len=3)),
)

@pytest.mark.benchmark(group="mine")
def test_speed(attnconf_benchmark):
    attnconf_benchmark(CASE, backend="reference", rounds=7)
"""
NO_GPU = """
import attnconf.platforms
from pytest_attnconf.state import KEY

def pytest_runtest_setup(item):
    item.config.stash[KEY].__dict__["platform"] = attnconf.platforms.Platform()
"""
SIMULATED = """
import itertools
import types

import pytest

import attnconf.platforms
import attnconf.running.bench.timing as timing
from pytest_attnconf.state import KEY

class Clock:
    __name__ = "simulated"
    ticks = itertools.count()
    def __call__(self):
        return next(self.ticks) * 0.002

@pytest.fixture(autouse=True)
def simulated(request, monkeypatch):
    state = request.config.stash[KEY]
    state.session.isolate = False
    state.__dict__["platform"] = attnconf.platforms.Platform(device="simulated clock", sm=(9, 0), simulated=True)
    monkeypatch.setattr(timing, "CudaTimer", Clock)
    made = timing.Timing(lambda: None, {"kernel": "k", "launches": 20})
    monkeypatch.setattr(timing, "time_case", lambda case, layer, backend, platform: made)
"""


def test_without_a_gpu_a_test_that_times_is_not_run(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(NO_GPU)
    pytester.makepyfile(TEST)
    result = pytester.runpytest_inprocess("-rs", "-W", "error")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["not_run: 1 test: attnconf_benchmark times kernels on a GPU, and this machine has none"]
    )
    assert result.parseoutcomes() == {"not_run": 1}


def test_without_pytest_benchmark_it_says_what_is_missing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TEST.replace('@pytest.mark.benchmark(group="mine")', ""))
    result = pytester.runpytest_inprocess("-rs", "-p", "no:benchmark")
    result.stdout.fnmatch_lines(["*needs pytest-benchmark, which is not here; pip install*"])


def test_a_right_kernel_is_timed_into_the_results_of_pytest_benchmark(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(SIMULATED)
    pytester.makepyfile(TEST)
    result = pytester.runpytest_inprocess("--benchmark-json=speed.json", "-W", "error")
    assert result.parseoutcomes() == {"passed": 1}
    (found,) = json.loads((pytester.path / "speed.json").read_text(encoding="utf-8"))["benchmarks"]
    assert found["extra_info"] == {"kernel": "k", "launches": 20}
    assert found["group"] == "mine"
    assert (found["stats"]["rounds"], found["stats"]["median"]) == (7, pytest.approx(0.002))
    assert found["options"]["timer"] == "simulated"


def test_where_benchmarks_are_off_nothing_is_timed_and_that_is_said(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(SIMULATED)
    pytester.makepyfile(TEST)
    result = pytester.runpytest_inprocess("-rs", "-W", "error", "--benchmark-disable")
    assert result.parseoutcomes() == {"not_run": 1}
    result.stdout.fnmatch_lines(["*pytest-benchmark is off in this run, as it is under pytest-xdist*"])


def test_a_wrong_kernel_has_no_speed(pytester: pytest.Pytester) -> None:
    wrong = SIMULATED.replace("state.session.isolate = False", "state.session.isolate = False\n    wreck(monkeypatch)")
    wreck = """
def wreck(monkeypatch):
    from attnconf.backends.reference import ReferenceBackend

    class Wrong:
        def __init__(self, inner):
            self.inner = inner
        def run(self, layer, out, lse):
            name = self.inner.run(layer, out, lse)
            out.mul_(2)
            return name

    right = ReferenceBackend.prepare
    monkeypatch.setattr(ReferenceBackend, "prepare", lambda self, batch: Wrong(right(self, batch)))
"""
    pytester.makeconftest(wrong + wreck)
    pytester.makepyfile(TEST)
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    assert result.parseoutcomes()["failed"] == 1
    result.stdout.fnmatch_lines(["*reference fails case*"])
