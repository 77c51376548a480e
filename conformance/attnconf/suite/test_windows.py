"""Family ``windows``: sliding layers alone, with windows that mask keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnconf.running.judge import Judge


def test_windows(attnconf: Judge, backend: str, model: str) -> None:
    attnconf.explore("windows", model=model, backend=backend)
