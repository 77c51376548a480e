"""The examples run on any CPU, and tell what they say that they tell."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_a_default_is_flipped_end_to_end(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "flip_default.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)  # noqa: S603
    assert done.returncode == 0, done.stdout + done.stderr
    _, demand, red, refused, green, lacking = re.split(r"^\d\. ", done.stdout, flags=re.MULTILINE)
    assert re.findall(r"^job (\S+): (\d+) required cells on b200", demand, re.MULTILINE) == [
        ("b200.1", "16"),
        ("b200.2", "12"),
    ]
    assert "job cpu" not in demand
    assert "needs runner b200 (labels self-hosted, linux, b200; SM 10.0 with CUDA 13.0)" in red
    assert refused.count("of a SIMULATED machine") == 2
    assert "REHEARSAL" in green
    assert "28 required cells in 2 receipts" in green
    shared = re.findall(
        r"^NOT MET \(missing\): .* (gemma4-e[24]b) (sliding|full)-shared (decode|extend) ", lacking, re.MULTILINE
    )
    assert len(shared) == lacking.count("NOT MET") == 8
    statuses = [re.findall(r"exit status (\d+)", part) for part in (demand, red, refused, green, lacking)]
    assert statuses == [["0"], ["10"], ["10"], ["13"], ["10"]]


def test_a_strangers_repository_gates_its_own_kernel(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "own_kernel.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)  # noqa: S603
    assert done.returncode == 0, done.stdout + done.stderr
    _, plan, red, green = re.split(r"^\d\. ", done.stdout, flags=re.MULTILINE)
    assert "2 required cells" in plan
    assert "clause 2 (window)" in red
    assert "NOT MET (not proven): runner cpu: mine gemma4-e2b sliding decode is not proven" in red
    assert "none in which window mattered" not in red
    assert "2 required cells in 1 receipt" in green
    assert [re.findall(r"^   exit status (\d+)$", part, re.MULTILINE) for part in (plan, red, green)] == [
        ["0"],
        ["1", "10"],
        ["0", "0", "0"],
    ]
