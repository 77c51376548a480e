"""Loaded and not asked, the plugin does nothing, imports nothing and says nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]

LAZY = "import pytest_attnconf, sys; sys.exit(1 if {'torch', 'attnconf'} & set(sys.modules) else 0)"
COST = """
import pytest, _pytest.terminal, _pytest.junitxml, json, subprocess, argparse, time
start = time.perf_counter()
import pytest_attnconf
print(time.perf_counter() - start)
"""
WAYS = {
    "autoload": ((), False),
    "named": (("-p", "attnconf"), False),
    "autoload off": (("-p", "attnconf"), True),
}


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)  # noqa: S603 - no shell


def test_importing_it_imports_neither_torch_nor_attnconf() -> None:
    assert python(LAZY).returncode == 0


def test_importing_it_costs_little() -> None:
    costs = [float(python(COST).stdout) for _ in range(3)]
    assert min(costs) < 0.15  # about 0.01 s on an idle machine


@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_does_not_ask_sees_nothing_of_it(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    options, no_autoload = WAYS[way]
    if no_autoload:
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(
        """
        import sys

        def test_nothing_is_imported():
            assert "torch" not in sys.modules
            assert "attnconf" not in sys.modules
            assert "pytest_attnconf" in sys.modules
    """
    )
    result = pytester.runpytest_subprocess(*options, "-W", "error")
    assert result.ret == 0
    assert result.parseoutcomes() == {"passed": 1}
    shown = [line for line in result.outlines if "attnconf" in line and not line.startswith(("plugins:", "rootdir:"))]
    assert shown == []


def test_a_test_that_fails_changes_nothing_of_that(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import sys

        def pytest_unconfigure():
            assert not {"torch", "attnconf"} & set(sys.modules)
    """
    )
    pytester.makepyfile("def test_it():\n    assert False")
    result = pytester.runpytest_subprocess("-p", "attnconf", "-W", "error")
    assert (result.ret, result.parseoutcomes(), result.stderr.str()) == (1, {"failed": 1}, "")


def test_its_markers_are_known(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.sm100: *", "@pytest.mark.requires_sm(?sms): *"])


def test_its_options_are_explained(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--help")
    assert result.ret == 0
    for name in ("profile", "backend", "model", "seed", "receipt", "policy", "sm", "require-sm", "replay"):
        result.stdout.fnmatch_lines([f"*--attnconf-{name}=*"])


def test_the_suite_runs_with_autoload_off(
    pytester: pytest.Pytester, toy_case: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    del toy_case
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    result = pytester.runpytest_subprocess(
        *("-p", "attnconf", "--pyargs", "attnconf.suite", "-W", "error", "--strict-markers", "--strict-config"),
        *("--attnconf-profile=replay", "--attnconf-replay=case.json", "--attnconf-backend=reference"),
    )
    assert result.ret == 0
    assert result.parseoutcomes()["passed"] == 1
    left = {path.name for path in pytester.path.iterdir()} - {"stdout", "stderr", "runpytest-0", "runpytest-current"}
    assert left == {".pytest_cache", "case.json"}
