"""Our own scheduler: it admits, plans batches, preempts and finishes. Mutants of schedulers are made from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from attnconf.serving.managers.protocol import Manager

Reason = Literal["finished", "aborted", "refused"]
MOST_RUNNING = 4
"""Requests of one batch."""


@dataclass
class Sequenced:
    """One request that has not ended: its prompt and answer so far, and how many of its tokens have stored keys."""

    request: int
    tokens: list[int]
    prompt: int
    answer: int
    written: int = 0

    @property
    def missing(self) -> int:
        """How many tokens of the answer are missing."""
        return self.prompt + self.answer - len(self.tokens)


@dataclass(frozen=True)
class Row:
    """One request of a batch: ``tokens`` from position ``start`` on, then ``drafts``. Those before it are stored."""

    request: int
    start: int
    tokens: tuple[int, ...]
    drafts: tuple[int, ...] = ()

    @property
    def kv_len(self) -> int:
        """Cached and new tokens, drafts included."""
        return self.start + len(self.tokens) + len(self.drafts)


@dataclass(frozen=True)
class End:
    """How a request ended, with its answer."""

    request: int
    reason: Reason
    answer: tuple[int, ...] = ()


class Scheduler:
    """Plays requests over a memory manager, in their order of arrival."""

    def __init__(self, memory: Manager) -> None:
        self.memory = memory
        self.waiting: list[Sequenced] = []
        self.running: list[Sequenced] = []
        self.ended: list[End] = []

    def submit(self, request: int, prompt: Sequence[int], answer: int) -> None:
        """Queue a request; one that no memory would hold is refused."""
        if not self.memory.fits(len(prompt) + answer):
            self.ended.append(End(request, "refused"))
            return
        self.waiting.append(Sequenced(request, list(prompt), len(prompt), answer))

    def plan(self, chunk: int, propose: Callable[[Sequenced], tuple[int, ...]]) -> list[Row]:
        """Return the next batch. ``propose`` returns the drafts of a sequence that decodes."""
        self._admit()
        rows: list[Row] = []
        for sequence in list(self.running):
            if sequence not in self.running:
                continue
            new = tuple(sequence.tokens[sequence.written : sequence.written + chunk])
            decodes = sequence.written == len(sequence.tokens) - 1 and len(sequence.tokens) > sequence.prompt
            drafts = propose(sequence)[: max(0, sequence.missing - 1)] if decodes else ()
            row = Row(sequence.request, sequence.written, new, drafts)
            if self._make_room(sequence, row):
                rows.append(row)
        return rows

    def accept(self, row: Row, answered: Sequence[int]) -> None:
        """Take the result of a row: the right drafts and the token behind them; nothing within a prompt."""
        sequence = self._find(row.request)
        sequence.written = row.start + len(row.tokens) + max(0, len(answered) - 1)
        sequence.tokens += answered
        self.memory.commit(row.request, sequence.tokens[: sequence.written])
        if not sequence.missing:
            self.running.remove(sequence)
            self.memory.free(row.request)
            self._end(sequence, "finished")

    def preempt(self, request: int) -> None:
        """Take a running request's memory; it will begin again, before those that arrived later."""
        sequence = self._find(request)
        self.running.remove(sequence)
        self.memory.free(request)
        sequence.written = 0
        self.waiting.insert(0, sequence)

    def abort(self, request: int) -> None:
        """End a request that runs or waits."""
        sequence = self._find(request)
        if sequence in self.running:
            self.running.remove(sequence)
            self.memory.free(request)
        else:
            self.waiting.remove(sequence)
        self._end(sequence, "aborted")

    def reorder(self, turn: int) -> None:
        """Move the first ``turn`` running requests to the end of the batch."""
        self.running = self.running[turn:] + self.running[:turn]

    def _find(self, request: int) -> Sequenced:
        return next(one for one in (*self.running, *self.waiting) if one.request == request)

    def _end(self, sequence: Sequenced, reason: Reason) -> None:
        self.ended.append(End(sequence.request, reason, tuple(sequence.tokens[sequence.prompt :])))

    def _admit(self) -> None:
        while self.waiting and len(self.running) < MOST_RUNNING:
            first = self.waiting[0]
            hit = self.memory.allocate(first.request, first.tokens)
            if hit is None:
                return
            first.written = hit
            self.running.append(self.waiting.pop(0))

    def _make_room(self, sequence: Sequenced, row: Row) -> bool:
        """Make room for ``row``; the last running request is preempted until there is some. False if that was its own.

        The last one has no row yet: rows are planned in the order of ``running``.
        """
        while not self.memory.extend(sequence.request, sequence.tokens, row.kv_len):
            victim = self.running[-1]
            self.preempt(victim.request)
            if victim is sequence:
                return False
        return True
