"""1,000 mutated inputs to every reader and command, in a process whose peak of memory is theirs alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_1000_mutated_inputs_give_no_traceback_and_no_wrong_green() -> None:
    command = [sys.executable, "-m", "conformance.tests.support.fuzz", "1000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - fixed arguments
    assert done.returncode == 0, done.stdout + done.stderr
    assert "{0: " in done.stdout  # else nothing was right, and all was refused for one reason
