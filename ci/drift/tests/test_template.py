"""sglang's own CI reads and runs the template of a test file; ``make drift`` runs this beside the installed engine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from sglang.test.ci import fork_test_worker
from sglang.test.ci.ci_register import HWBackend, ut_parse_one_file

TEMPLATE = Path(__file__).parents[2] / "templates" / "sglang_test.py"


def test_it_is_registered_for_a_b200_runner_and_can_be_run() -> None:
    registries, has_main_entry = ut_parse_one_file(str(TEMPLATE))
    (registry,) = registries
    assert registry.backend is HWBackend.CUDA
    assert registry.effective_suite == "base-b-test-4-gpu-b200"
    assert has_main_entry


@pytest.mark.parametrize("status", [0, 10, 12])
def test_a_worker_of_sglang_sees_the_status_of_the_suite(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    given: list[str] = []
    monkeypatch.setattr(pytest, "main", lambda arguments: given.extend(arguments) or status)
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert fork_test_worker._run_file(str(TEMPLATE)) == status
    assert given[:3] == ["-p", "attnconf", "--pyargs"]
    assert "-f" not in given
