"""Family ``shared_kv``: layers that read another layer's cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnconf.running.judge import Judge


def test_shared_kv(attnconf: Judge, backend: str, model: str) -> None:
    attnconf.explore("shared_kv", model=model, backend=backend)
