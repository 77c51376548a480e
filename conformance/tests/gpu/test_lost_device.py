"""A whole run in which a kernel writes out of bounds and another never ends: each costs one result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conformance.tests.support.isolated_session import assert_one_result_each, cells_of, run_isolated

if TYPE_CHECKING:
    import pytest

pytest_plugins = ["pytester"]

SECONDS = 20.0


def test_a_write_out_of_bounds_and_a_kernel_without_end_cost_one_result_each(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("out_of_bounds", "endless")
    result = run_isolated(pytester, monkeypatch, "conformance.tests.support.wrecking_gpu", names, SECONDS)
    assert_one_result_each(pytester, result, names)
    reasons = {name: " ".join(cells_of(pytester)[name].reasons) for name in names}
    assert "illegal memory access" in reasons["out_of_bounds"]
    assert "no answer within 20 s: the process was ended" in reasons["endless"]
