"""The race against FlashInfer's own test file counts what was executed, and nothing else."""

from __future__ import annotations

from ci.benchmarks.xqa_race import Ran, executed_tests

JUNIT = """<?xml version="1.0" encoding="utf-8"?>
<testsuites><testsuite name="pytest" errors="1" failures="2" skipped="5" tests="12" time="1.5"/></testsuites>"""


def test_a_skipped_test_is_not_executed_and_an_error_is_a_failure() -> None:
    assert executed_tests(JUNIT) == (12, 7, 3)


def test_a_rate_is_of_executed_cases() -> None:
    ran = Ran("flashinfer", "warm", 100, 20, 0, 10.0, "pytest file")
    assert ran.text == "flashinfer, warm: 20 cases executed of 100, 0 failed, 10 s, 2.00 a second"
