"""Family ``verify``: two to eight new tokens a request, as in speculative decoding."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnconf.running.judge import Judge


def test_verify(attnconf: Judge, backend: str, model: str) -> None:
    attnconf.explore("verify", model=model, backend=backend)
