"""Family ``free``: geometries, layouts and features drawn at random."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnconf.running.judge import Judge


def test_free(attnconf: Judge, backend: str, model: str) -> None:
    attnconf.explore("free", model=model, backend=backend)
