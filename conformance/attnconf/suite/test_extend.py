"""Family ``extend``: new tokens behind a cached prefix, or without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnconf.running.judge import Judge


def test_extend(attnconf: Judge, backend: str, model: str) -> None:
    attnconf.explore("extend", model=model, backend=backend)
