"""Family ``mixed``: decodes and extends in one batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnconf.running.judge import Judge


def test_mixed(attnconf: Judge, backend: str, model: str) -> None:
    attnconf.explore("mixed", model=model, backend=backend)
