"""Family ``hybrid_pools``: sliding layers in a pool with page ids of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnconf.running.judge import Judge


def test_hybrid_pools(attnconf: Judge, backend: str, model: str) -> None:
    attnconf.explore("hybrid_pools", model=model, backend=backend)
