"""Family ``machine``: batches over time, as a scheduler makes them over our own paged memory (clauses 21 to 26)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnconf.running.judge import Judge


def test_machine(attnconf: Judge, backend: str, model: str) -> None:
    attnconf.play(model=model, backend=backend)
