"""The race against FlashInfer's own test file counts what was executed, and nothing else."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest

from ci.benchmarks.xqa_race import Ran, executed_tests, timed

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

Handler: TypeAlias = "Callable[[int, FrameType | None], object] | signal.Handlers"

JUNIT = """<?xml version="1.0" encoding="utf-8"?>
<testsuites><testsuite name="pytest" errors="1" failures="2" skipped="5" tests="12" time="1.5"/></testsuites>"""


def test_a_skipped_test_is_not_executed_and_an_error_is_a_failure() -> None:
    assert executed_tests(JUNIT) == (12, 7, 3)


def test_a_rate_is_of_executed_cases() -> None:
    ran = Ran("flashinfer", "warm", 100, 20, 0, 10.0, "pytest file")
    assert ran.text == "flashinfer, warm: 20 cases executed of 100, 0 failed, 10 s, 2.00 a second"


def test_a_side_that_cannot_run_ends_the_race_in_a_sentence(tmp_path: Path) -> None:
    options = [
        "--file",
        "none.py",
        "--side",
        "attnconf",
        "--model",
        "no-such-model",
        "--json",
        str(tmp_path / "r.json"),
    ]
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, "-m", "ci.benchmarks.xqa_race", *options],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    assert "no-such-model" in done.stderr
    assert done.stderr.endswith("campaign.json was not written: that run ended before its first case\n")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("before", [signal.default_int_handler, signal.SIG_IGN], ids=["in front", "in the background"])
def test_a_run_that_is_ended_counts_what_it_executed_until_then(before: Handler, tmp_path: Path) -> None:
    file, report = tmp_path / "test_theirs.py", tmp_path / "junit.xml"
    file.write_text("import time\ndef test_short(): pass\ndef test_endless(): time.sleep(60)\n", encoding="utf-8")
    options = ["-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    found = signal.signal(signal.SIGINT, before)
    try:
        seconds = timed([sys.executable, "-m", "pytest", str(file), *options], tmp_path, tmp_path, 8.0)
    finally:
        signal.signal(signal.SIGINT, found)
    assert 8.0 <= seconds < 50.0
    assert executed_tests(report.read_text(encoding="utf-8")) == (1, 1, 0)
