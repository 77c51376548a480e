"""What was collected stays until the end: the garbage collector need not look at it after every test."""

from __future__ import annotations

import gc


def pytest_collection_finish() -> None:
    """Leave the objects of torch and of thousands of tests out of all later collections: a tenth of the time."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Let them go: Triton's bindings report what is never given back."""
    gc.unfreeze()
