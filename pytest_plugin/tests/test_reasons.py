"""Reasons: a summary that can be read, whatever kept hundreds of tests from running."""

from __future__ import annotations

from pytest_attnconf.reasons import Reasons

UNBUILT = "its kernel module {0} is not built (about 6 CPU minutes; attnconf build --module {0})"


def lines(*texts: str) -> list[str]:
    reasons = Reasons()
    for text in texts:
        reasons.add(text)
    return reasons.lines


def test_each_reason_is_one_line_with_its_tests_whatever_it_stands_beside() -> None:
    assert lines("a; also: b", "b", "b; also: c; d") == [
        "not_run: 3 tests: b",
        "not_run: 1 test: a",
        "not_run: 1 test: c; d",
    ]


def test_one_module_that_is_not_built_is_named_with_its_command() -> None:
    reason = UNBUILT.format("decode")
    assert lines(reason, f"fa3 takes no fp8; also: {reason}") == [
        f"not_run: 2 tests: {reason}",
        "not_run: 1 test: fa3 takes no fp8",
    ]


def test_many_of_them_are_one_line() -> None:
    texts = [UNBUILT.format(name) for name in ("decode", "extend", "extend", "verify")]
    (line,) = lines(*texts)
    assert line.startswith("not_run: 4 tests: 3 kernel modules are not built")
    assert "attnconf build --dry-run" in line


def test_a_test_that_lacks_two_of_them_counts_once() -> None:
    assert lines(f"{UNBUILT.format('a')}; also: {UNBUILT.format('b')}")[0].startswith(
        "not_run: 1 test: 2 kernel modules"
    )


def test_nothing_is_said_of_nothing() -> None:
    assert not Reasons()
    assert lines() == []
