"""Kernel modules are built before the first test; families and the budget are options."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from attnconf.platforms import simulate

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["pytester"]

COMPILER = """
import os

import pytest

from attnconf.backends.builds import Build, BuildReport
from attnconf.backends.protocol import Unsupported
from attnconf.backends.reference import ReferenceBackend


class Compiler(ReferenceBackend):
    name = "compiler"

    def supports(self, shape, platform):
        return Unsupported("nothing runs in this test")

    def builds(self, shapes):
        modes = sorted({shape.mode for shape in shapes})
        return tuple(Build(mode, 3600.0 if mode == "extend" else 10.0) for mode in modes)

    def is_built(self, build):
        return os.path.exists(build.name + ".so")

    def build(self, builds, jobs, progress):
        for build in builds:
            progress("building " + build.name)
            open(build.name + ".so", "w").close()
        return BuildReport(built=tuple(build.name for build in builds), failures={"extra": "no nvcc"}, seconds=3600.0)

    def export(self, builds, folder):
        raise NotImplementedError


@pytest.hookimpl(optionalhook=True)
def pytest_attnconf_register_backends(registry):
    registry.register("compiler", lambda platform: Compiler())
"""
# with this seed the family verify draws a case whose checks ask for decode and extend, too
SUITE = ("--pyargs", "attnconf.suite", "--attnconf-profile=gate", "--attnconf-seed=2", "--attnconf-backend=compiler")


@pytest.fixture
def on_gpu(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pytest.RunResult]:
    """Run the suite as on a Hopper GPU, with a backend that compiles and then runs nothing."""
    pytester.makeconftest(COMPILER)
    monkeypatch.setattr("attnconf.platforms.detect", lambda: simulate("9.0"))
    monkeypatch.setenv("MAX_JOBS", "2")
    options = ("-p", "attnconf", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
    return lambda *args: pytester.runpytest_inprocess(*options, *SUITE, "--attnconf-model=gemma4-e2b", *args)


def built(pytester: pytest.Pytester) -> set[str]:
    return {path.stem for path in pytester.path.glob("*.so")}


def test_planning_is_silent(pytester: pytest.Pytester) -> None:
    """In a process of its own: Hypothesis would warn of draws of its own before the first test."""
    pytester.makeconftest(
        COMPILER + "\n\nimport attnconf.platforms\n\nSM90 = attnconf.platforms.simulate('9.0')\n"
        "attnconf.platforms.detect = lambda: SM90\n"
    )
    options = ("-p", "attnconf", "-p", "no:cacheprovider", *SUITE, "--attnconf-model=gemma4-e2b")
    result = pytester.runpytest_subprocess(*options, "--attnconf-family=decode")
    said = result.stdout.str() + result.stderr.str()
    assert "kernel modules for these tests" in said
    assert "Hypothesis" not in said.replace("hypothesis-", "")


def test_what_the_tests_need_is_built_before_them_and_reported_apart(
    on_gpu: Callable[..., pytest.RunResult], pytester: pytest.Pytester
) -> None:
    result = on_gpu("--attnconf-family=verify")
    assert built(pytester) == {"decode", "verify"}
    result.stdout.fnmatch_lines(
        [
            "*test session starts*",
            "attnconf: 3 kernel modules for these tests, 0 cached, about 10 s with 2 jobs",
            "attnconf: not run without extend, which is not built (about 60 CPU minutes)",
            "attnconf: building decode",
            "attnconf: building verify",
            "attnconf: kernel modules: 2 built before the first test, in 3600 s, 0 cached, 1 not built and beyond*",
            "attnconf: kernel module extra does not build: no nvcc",
            "collected *",
            "attnconf: kernel modules: 2 built before the first test, in 3600 s, 0 cached, 1 not built and beyond*",
        ]
    )
    again = on_gpu("--attnconf-family=verify")
    again.stdout.fnmatch_lines(["attnconf: 3 kernel modules for these tests, 2 cached, nothing to build"])
    again.stdout.no_fnmatch_line("attnconf: building *")


def test_a_budget_allows_or_forbids(on_gpu: Callable[..., pytest.RunResult], pytester: pytest.Pytester) -> None:
    on_gpu("--attnconf-family=verify", "--attnconf-build-budget=0")
    assert built(pytester) == set()
    on_gpu("--attnconf-family=verify", "--attnconf-build-budget=4000")
    assert built(pytester) == {"decode", "extend", "verify"}


def test_what_memory_does_not_allow_is_said_before_the_first_test(
    on_gpu: Callable[..., pytest.RunResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attnconf.judging.memory.host_memory", lambda: 10**8)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = on_gpu("--attnconf-family=verify", "--attnconf-build-budget=0")
    result.stdout.fnmatch_lines(
        [
            "attnconf: 3 large cases for each backend, of up to * and a process has 0.1 GB of host memory",
            "attnconf: not run: 3 large cases of gemma4-e2b: each needs more than the 0.1 GB of host memory *",
            "collected *",
        ]
    )
    short = on_gpu("--attnconf-family=verify", "--attnconf-profile=smoke")
    short.stdout.no_fnmatch_line("attnconf: *large cases*")


@pytest.mark.parametrize("text", ["-1", "nan", "much"])
def test_a_budget_is_a_number_of_seconds(on_gpu: Callable[..., pytest.RunResult], text: str) -> None:
    result = on_gpu(f"--attnconf-build-budget={text}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*is not a number of seconds, 0 or more"])


def test_collecting_builds_nothing_and_a_family_deselects_the_others(
    on_gpu: Callable[..., pytest.RunResult], pytester: pytest.Pytester
) -> None:
    result = on_gpu("--attnconf-family=decode", "--attnconf-family=extend", "--collect-only", "-q")
    assert built(pytester) == set()
    names = {line.partition("::")[2].partition("[")[0] for line in result.outlines if "::" in line}
    assert names == {"test_decode", "test_extend"}


def test_an_unknown_family_is_one_sentence(on_gpu: Callable[..., pytest.RunResult]) -> None:
    result = on_gpu("--attnconf-family=nonsense")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --attnconf-family: 'nonsense'; allowed: decode, extend*"])


def test_without_a_gpu_or_without_the_suite_nothing_is_built(
    on_gpu: Callable[..., pytest.RunResult], pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile("def test_mine(): pass")
    pytester.runpytest_inprocess("-p", "attnconf", "--attnconf-backend=compiler").assert_outcomes(passed=1)
    monkeypatch.setattr("attnconf.platforms.detect", type(simulate("9.0")))
    on_gpu("--attnconf-family=verify")
    assert built(pytester) == set()
