"""What the machine asks of a memory manager, ours or an engine's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from attnconf.cases.recorded import NULL_PAGE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnconf.cases.inputs.batch import Pool


@dataclass(frozen=True)
class Table:
    """Where ``tokens`` tokens of a sequence have room: for each pool its page ids in order, 0 for one given back."""

    page_size: int
    tokens: int
    pages: Mapping[Pool, Sequence[int]]

    def slot(self, pool: Pool, token: int) -> int | None:
        """Return the slot of ``token`` in ``pool``, page * page_size + offset, or None where it has none."""
        pages, place = self.pages[pool], token // self.page_size
        if place >= len(pages) or pages[place] == NULL_PAGE:
            return None
        return pages[place] * self.page_size + token % self.page_size


@dataclass(frozen=True)
class Census:
    """The pages of one pool: all, those in the free list (in its order), and those kept for prefix hits alone."""

    every: frozenset[int]
    free: tuple[int, ...]
    cached: frozenset[int] = field(default=frozenset())


class Manager(Protocol):
    """A memory manager of paged KV, with a prefix cache.

    ``pools`` are "full", and "swa" where sliding layers have pages of their own; ``window_left`` is that of the sliding
    layers, -1 without any. ``one_memory``: a page is the same memory in every pool. Requests are named by numbers.
    Tokens are those whose keys the memory holds.
    """

    name: str
    page_size: int
    pools: tuple[Pool, ...]
    window_left: int
    one_memory: bool

    def fits(self, tokens: int) -> bool:
        """Return whether a request of so many tokens, alone in the memory, has room."""
        ...

    def match_prefix(self, tokens: Sequence[int]) -> Table:
        """Return the cached pages that begin as ``tokens`` do. Nothing is claimed."""
        ...

    def allocate(self, request: int, tokens: Sequence[int]) -> int | None:
        """Admit a request: claim its cached prefix, and return how many of its tokens that saves; None without room.

        At least the last token is left to be computed.
        """
        ...

    def extend(self, request: int, tokens: Sequence[int], upto: int) -> bool:
        """Make room for the first ``upto`` tokens, drafts included; False where there is none, and nothing is lost.

        ``tokens`` are the request's tokens so far, without drafts.
        """
        ...

    def commit(self, request: int, tokens: Sequence[int]) -> None:
        """Note that the keys of ``tokens`` are written and valid; what was written behind them was rejected."""
        ...

    def free(self, request: int) -> None:
        """Take back what a request holds: it has finished, was aborted, or is preempted."""
        ...

    def evict(self) -> None:
        """Give up all cached pages that no request reads."""
        ...

    def table(self, request: int) -> Table:
        """Return where the tokens of an admitted request lie."""
        ...

    def census(self) -> Mapping[Pool, Census]:
        """Return the pages of each pool."""
        ...
