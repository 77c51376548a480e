"""Builds side by side: who shares the jobs with whom, and what FlashInfer calls otherwise than we do."""

from __future__ import annotations

import inspect
import os
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from attnconf.backends.builds import Build
from attnconf.backends.flashinfer import library
from attnconf.backends.flashinfer.jit import build_all, groups, without_jit
from attnconf.errors import UnbuiltError
from attnconf.platforms import simulate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def some(count: int, cpu_seconds: float, sources: int) -> list[Build]:
    return [Build(f"m{sources}_{index}", cpu_seconds, sources) for index in range(count)]


def shares(builds: list[Build], jobs: int) -> list[tuple[int, int]]:
    """Return for each group how many are built, and how many of them at once."""
    return [(len(group), together) for group, together in groups(builds, jobs)]


def test_short_builds_go_side_by_side() -> None:
    assert shares(some(40, 14.0, 5), 16) == [(40, 16)]
    assert shares(some(2, 14.0, 5), 16) == [(2, 2)]


def test_a_long_build_that_keeps_every_job_busy_is_built_alone() -> None:
    assert shares(some(2, 1800.0, 134), 16) == [(1, 1), (1, 1)]
    assert shares(some(3, 330.0, 10), 2) == [(1, 1)] * 3


@pytest.mark.parametrize(
    ("count", "together"),
    [(1, 1), (2, 2), (3, 3), (6, 3), (8, 8), (11, 3), (16, 16), (17, 3)],
)
def test_long_builds_of_few_sources_share_the_jobs_so_that_they_end_soonest(count: int, together: int) -> None:
    def rounds(at_once: int) -> int:
        return -(-count // at_once) * -(-10 // (16 // at_once))

    ((group, chosen),) = groups(some(count, 330.0, 10), 16)
    assert (len(group), chosen) == (count, together)
    assert all(rounds(chosen) <= rounds(other) for other in range(1, min(count, 16) + 1))


def test_every_build_is_in_one_group_and_short_ones_come_first() -> None:
    builds = [*some(3, 330.0, 10), *some(2, 1800.0, 134), *some(5, 14.0, 5)]
    found = list(groups(builds, 16))
    assert sorted(build.name for group, _ in found for build in group) == sorted(build.name for build in builds)
    assert [len(group) for group, _ in found] == [5, 1, 1, 3]
    assert list(groups([], 16)) == []


def test_builds_of_a_group_run_at_the_same_time_and_share_max_jobs(
    places: SimpleNamespace, put: Callable[..., Path]
) -> None:
    builds = some(4, 330.0, 10)
    at_once = threading.Barrier(4, timeout=20)
    seen: list[str] = []

    def specify(name: str) -> SimpleNamespace:
        def compile_(*, verbose: bool, need_lock: bool = False) -> None:
            assert not verbose
            assert need_lock  # another campaign on this machine may build the same module
            at_once.wait()
            seen.append(os.environ["MAX_JOBS"])
            put(places.FLASHINFER_JIT_DIR, name)

        return SimpleNamespace(name=name, build=compile_)

    lines: list[str] = []
    report = build_all(builds, simulate("9.0"), specify, 16, lines.append)
    assert report.built == tuple(build.name for build in builds)
    assert seen == ["4"] * 4
    assert lines[-1].startswith("4 of 4 kernel modules: done")


@pytest.mark.usefixtures("places")
def test_a_module_that_flashinfer_calls_otherwise_is_not_built() -> None:
    def specify(name: str) -> SimpleNamespace:
        return SimpleNamespace(name=f"{name}_v2", build=lambda **_: pytest.fail("it was built"))

    report = build_all([Build("one", 330.0, 10)], simulate("9.0"), specify, 4, print)
    assert report.built == ()
    assert "calls this module one_v2" in report.failures["one"]


VARIABLE = "FLASHINFER_DISABLE_JIT"


@pytest.mark.parametrize("before", [None, "0"])
def test_without_jit_flashinfer_is_kept_from_compiling_and_what_it_says_is_typed(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if before is not None:
        monkeypatch.setenv(VARIABLE, before)

    def say(message: str) -> str:
        seen = os.environ[VARIABLE]
        if message:
            raise RuntimeError(message)
        return seen

    with without_jit():
        assert say("") == "1"
    with pytest.raises(UnbuiltError, match="compiles a module for it before it could refuse"), without_jit():
        say(f"JIT compilation is disabled via {VARIABLE} environment variable, but the module is not found")
    with pytest.raises(RuntimeError, match="another thing"), without_jit():
        say("another thing")
    assert os.environ.get(VARIABLE) == before


def test_the_installed_flashinfer_looks_at_the_variable_in_each_call() -> None:
    core = library.imported("flashinfer.jit.core")
    assert f'os.environ.get("{VARIABLE}")' in inspect.getsource(core.JitSpec.build_and_load)
