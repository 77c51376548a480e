"""Fault: a wrong backend that diagnosis was not made with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnconf.mutants.mutant import under_name
from attnconf.mutants.source import Edit, Edited, edited

if TYPE_CHECKING:
    from attnconf.backends.protocol import Backend
    from attnconf.clauses import Clause
    from attnconf.platforms import Platform

P = "p = torch.softmax(scores, dim=3)[..., : k.shape[0]]\n"
SCALED = "scores = scores * (geometry.sm_scale * self._owner(layer).k_scale)\n"
HIDDEN = "hidden = (keys > positions) | (keys < positions - window)\n"
MASKED = "scores = scores.masked_fill(hidden, -math.inf)\n"
FIRST = "first_key = max(0, kv_len - q_len - window)\n"
GATHERED = "k, v = (self._gather(cache, table, first_key, kv_len) for cache in self._caches(layer))\n"


@dataclass(frozen=True)
class Fault:
    """``id`` and ``summary`` say what is wrong, ``clause`` what that breaks, and ``make`` returns the backend."""

    id: str
    summary: str
    clause: Clause
    make: Edited

    def make_named(self, platform: Platform) -> Backend:
        """Return the backend as one that calls itself by ``id``."""
        return under_name(self.make(platform), self.id)


def reference(*edits: Edit) -> Edited:
    """Return ``reference`` with ``edits``."""
    return edited("reference", *edits)


def behind(line: str, more: str) -> Edit:
    """Return the edit of ``reference`` that adds the statement ``more`` behind ``line``, which ends it."""
    return Edit(line, f"{line}        {more}\n")
