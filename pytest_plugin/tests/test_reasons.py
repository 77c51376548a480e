"""Reasons: a summary that can be read, whatever kept hundreds of tests from running."""

from __future__ import annotations

from pytest_attnconf.reasons import Reasons

Reason = tuple[str, str]


def unbuilt(module: str) -> Reason:
    return f"its kernel module {module} is not built (about 6 CPU minutes)", module


def lines(*tests: list[Reason]) -> list[str]:
    reasons = Reasons()
    for test in tests:
        reasons.add(test)
    return reasons.lines


def test_each_reason_is_one_line_with_its_tests_whatever_it_stands_beside() -> None:
    assert lines([("a", ""), ("b", "")], [("b", "")], [("b", ""), ("c; also: d", "")]) == [
        "not_run: 3 tests: b",
        "not_run: 1 test: a",
        "not_run: 1 test: c; also: d",
    ]


def test_one_module_that_is_not_built_is_named_with_its_command() -> None:
    reason = unbuilt("decode")
    assert lines([reason], [("fa3 takes no fp8", ""), reason]) == [
        f"not_run: 2 tests: {reason[0]}",
        "not_run: 1 test: fa3 takes no fp8",
    ]


def test_many_of_them_are_one_line() -> None:
    (line,) = lines(*([unbuilt(name)] for name in ("decode", "extend", "extend", "verify")))
    assert line.startswith("not_run: 4 tests: 3 kernel modules are not built")
    assert "attnconf build --dry-run" in line


def test_a_test_that_lacks_two_of_them_counts_once() -> None:
    assert lines([unbuilt("a"), unbuilt("b")])[0].startswith("not_run: 1 test: 2 kernel modules")


def test_nothing_is_said_of_nothing() -> None:
    assert not Reasons()
    assert lines() == []
