"""A whole run in which backends end or block their process: each costs one result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conformance.tests.support.isolated_session import assert_one_result_each, cells_of, run_isolated

if TYPE_CHECKING:
    import pytest

pytest_plugins = ["pytester"]


def test_a_segfault_and_a_hang_cost_one_result_each(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("segfault", "hang")
    result = run_isolated(pytester, monkeypatch, "conformance.tests.support.wrecking", names, seconds=10)
    assert_one_result_each(pytester, result, names)
    reasons = {name: " ".join(cells_of(pytester)[name].reasons) for name in names}
    assert "the process died (SIGSEGV)" in reasons["segfault"]
    assert "no answer within 10 s: the process was ended" in reasons["hang"]
