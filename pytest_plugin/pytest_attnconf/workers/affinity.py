"""Affinity: a worker of pytest-xdist takes tests of the backends that it has had before those of others."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from xdist.scheduler import LoadScheduling

from pytest_attnconf.suite_tests import backend_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest
    from xdist.remote import Producer
    from xdist.workermanage import WorkerController


class Affinity(LoadScheduling):  # type: ignore[misc] # xdist has no types
    """xdist's own ``load``, but for the order of what waits: first tests of a worker's backends, then as collected."""

    def __init__(self, config: pytest.Config, log: Producer | None, backends: Sequence[str]) -> None:
        super().__init__(config, log)
        self._backends = backends
        self._known: defaultdict[WorkerController, set[str]] = defaultdict(set)

    def check_schedule(self, node: WorkerController, duration: float = 0) -> None:
        """Give ``node`` more tests if it needs some, as xdist does."""
        known = self._known[node]
        known.update(self._backend(index) for index in self.node2pending[node])
        self.pending.sort(key=lambda index: (self._backend(index) not in known, index))
        super().check_schedule(node, duration)

    def _backend(self, index: int) -> str:
        return backend_of(self.collection[index], self._backends) if self.collection else ""
