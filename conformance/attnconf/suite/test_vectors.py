"""Family ``vectors``: recorded cases, each with the reason why it is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnconf.running.judge import Judge


def test_vector(attnconf: Judge, backend: str, vector: str) -> None:
    attnconf.replay(vector, backend=backend)
