"""Family ``decode``: one new token a request, over a paged cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnconf.running.judge import Judge


def test_decode(attnconf: Judge, backend: str, model: str) -> None:
    attnconf.explore("decode", model=model, backend=backend)
