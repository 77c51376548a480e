"""Family ``refusal``: what a backend declares unsupported it refuses before launch (clause 20)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnconf.running.judge import Judge


def test_refusal(attnconf: Judge, backend: str) -> None:
    attnconf.probe_refusals(backend=backend)
