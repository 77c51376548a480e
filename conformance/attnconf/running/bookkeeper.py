"""Bookkeeper: how every request of the machine's stories ended, as a ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.gate.serving.ledger import Ledger, LedgerEntry

if TYPE_CHECKING:
    from attnconf.serving.world import World

_REASONS = {"aborted": "by the client", "refused": "no memory would hold it"}


class Bookkeeper:
    """Notes the requests of each story that it is told, named by the story's number and their own."""

    def __init__(self) -> None:
        self._stories = 0
        self._entries: list[LedgerEntry] = []

    def __call__(self, world: World) -> None:
        """Note the requests of a story that has ended: what the client submitted, and what the scheduler says."""
        ends = {end.request: end for end in world.scheduler.ended}
        for request, known in world.known.items():
            end = ends.get(request)
            self._entries.append(
                LedgerEntry(
                    request=f"{self._stories}.{request}",
                    ended=None if end is None else end.reason,
                    reason="" if end is None else _REASONS.get(end.reason, ""),
                    output_tokens=None if end is None else len(end.answer),
                    asked_tokens=known.answer,
                )
            )
        self._stories += 1

    @property
    def ledger(self) -> Ledger:
        """What was noted so far."""
        return Ledger(requests=tuple(self._entries))
