"""Our tests and all that they start compute on one thread a process.

A run has a process for each core, and what it multiplies is tiny. NumPy's threads, in which Triton's interpreter
multiplies, wait for each other actively: with two of them the tests of Triton cost three to seven times the CPU time.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read once, when torch and NumPy are imported
