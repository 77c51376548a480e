"""An inner run of the suite, backends in processes of their own, over a case that wrecks between two that do not."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.cases.case import Case, Layer
from attnconf.cases.request import Request
from attnconf.gate.receipt import Receipt
from conformance.tests.support.wrecking import TRIGGER

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from attnconf.gate.cells import Cell

LENGTHS = {"a-before": 20, "b-wrecks": TRIGGER, "c-after": 21}
_ROOT = Path(__file__).parents[3]
_HOOK = """
import pytest
import {module} as backends

@pytest.hookimpl(optionalhook=True)
def pytest_attnconf_register_backends(registry):
    for name in {names!r}:
        registry.register(name, getattr(backends, name))
"""


def run_isolated(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, module: str, names: Sequence[str], seconds: float
) -> pytest.RunResult:
    """Judge ``reference`` and the backends ``names`` that ``module`` makes on three cases; the second one wrecks."""
    layer = Layer(kind="full", num_qo_heads=2, num_kv_heads=1, head_dim=64, sm_scale=0.125)
    folder = pytester.mkdir("cases")
    for name, kv_len in LENGTHS.items():
        case = Case(mode="decode", model="llama3-8b", layers=(layer,), requests=(Request(prefix_len=kv_len - 1),))
        (folder / f"{name}.json").write_text(json.dumps(case.to_data()))
    pytester.makeconftest(_HOOK.format(module=module, names=tuple(names)))
    path = os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)  # the processes find the backends by their module's name
    for variable in ("PYTEST_XDIST_WORKER", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(variable, raising=False)  # an outer run's are none of the inner run's
    suite = ("-p", "attnconf", "-p", "no:cacheprovider", "--pyargs", "attnconf.suite", "--attnconf-profile=replay")
    return pytester.runpytest_subprocess(
        *suite,
        "--attnconf-replay=cases",
        "--attnconf-isolate=on",
        f"--attnconf-case-seconds={seconds:g}",
        "--attnconf-receipt=r.json",
        *(f"--attnconf-backend={name}" for name in ("reference", *names)),
    )


def cells_of(pytester: pytest.Pytester) -> dict[str, Cell]:
    """Return the one cell of each backend from the inner run's receipt."""
    return {cell.backend: cell for cell in Receipt.read(pytester.path / "r.json").cells}


def assert_one_result_each(pytester: pytest.Pytester, result: pytest.RunResult, names: Sequence[str]) -> None:
    """Assert that each wrecking backend lost one case of three, and that every other one was judged right."""
    result.assert_outcomes(passed=3 + 2 * len(names), failed=len(names))
    cells = cells_of(pytester)
    assert (cells["reference"].passed, cells["reference"].broken) == (3, 0)
    for name in names:
        assert (cells[name].passed, cells[name].crashed, cells[name].broken) == (2, 1, 1)
