"""The world: a scheduler over a memory, events that happen to it, and a model of what must be true after each.

The model knows every request's prompt and answer. It does not ask the scheduler what is right, it asks what the
scheduler does: which rows it puts into a batch, which tables the manager gives, and how requests end.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.clauses import Clause
from attnconf.serving.conservation import check_pages, check_requests
from attnconf.serving.events import Abort, Evict, Preempt, Reorder, Step, Submit
from attnconf.serving.hits import Hits
from attnconf.serving.scheduler import Scheduler
from attnconf.serving.sequences import VOCABULARY, contents, continuation
from attnconf.serving.violation import Violation
from attnconf.serving.written import Written
from attnconf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from attnconf.cases.inputs.batch import Pool
    from attnconf.serving.events import Event
    from attnconf.serving.managers.protocol import Census, Manager, Table
    from attnconf.serving.scheduler import Row, Sequenced
    from attnconf.serving.sequences import Content

_RAISED = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What Python code raises when it is wrong; a judge's own verdicts are errors of attnconf."""

_MOST_DRAIN = 400
"""Batches within which all requests of a small world end, one for each of their tokens beside."""


@dataclass(frozen=True)
class BatchRow:
    """One row of a batch, the table that it reads through, and the identities of all its tokens, new ones included."""

    row: Row
    table: Table
    contents: tuple[Content, ...] = ()


@dataclass
class Known:
    """What is known of a request: its prompt, how many tokens it asks for, and its tokens so far."""

    prompt: tuple[int, ...]
    answer: int
    tokens: list[int]
    ended: bool = False


@dataclass
class World:
    """Events are applied one after the other; each raises ``Violation`` for the first clause that it breaks.

    ``judge`` is asked about every batch, with the story up to it: it runs a backend and raises what that does wrong.
    """

    memory: Manager
    judge: Callable[[list[BatchRow], Sequence[Event]], None] = lambda _rows, _story: None
    scheduler_type: type[Scheduler] = Scheduler
    story: list[Event] = field(default_factory=list)
    batches: int = 0

    def __post_init__(self) -> None:
        self._judging = False
        self._written = Written(self.memory)
        self._hits = Hits(self.memory, self._written)
        self.scheduler = self.scheduler_type(self._hits.watched)
        self.known: dict[int, Known] = {}

    @property
    def alive(self) -> list[int]:
        """The requests that have not ended, in their order of arrival."""
        return [request for request, known in self.known.items() if not known.ended]

    @property
    def running(self) -> list[int]:
        """The requests that run, in the order of the batch."""
        return [sequence.request for sequence in self.scheduler.running]

    @property
    def prompts(self) -> list[tuple[int, ...]]:
        """Every request's tokens so far, from which another prompt may begin."""
        return [tuple(known.tokens) for known in self.known.values()]

    def apply(self, event: Event) -> None:
        """Let ``event`` happen, and check what must hold behind it."""
        self.story.append(event)
        try:
            self._happen(event)
            self._check()
        except Violation as broken:
            raise Violation(broken.clause, broken.said, self.story) from None
        except _RAISED as error:
            if self._judging:
                raise
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}:{last.lineno}, in {last.name}"
            said = f"the scheduler or its memory raised {type(error).__name__}: {error} ({where})"
            raise Violation(Clause.STEPS, said, self.story) from error

    def finish(self) -> None:
        """Let all requests end, then check that each did so right, and that the memory is whole and empty."""
        waits = (len(known.prompt) + known.answer for known in self.known.values() if not known.ended)
        most = _MOST_DRAIN + sum(waits)
        for _ in range(most):
            if not self.alive:
                break
            self.apply(Step(chunk=64))
        else:
            said = f"request {self.alive[0]} has not ended after {most} batches"
            raise Violation(Clause.REQUESTS, said, self.story)
        self.apply(Evict())
        for pool, pages in self.memory.census().items():
            if lost := pages.every - set(pages.free):
                said = f"{counted(len(lost), 'page')} of the {pool} pool (page {min(lost)}) is lost: no request is left"
                raise Violation(Clause.PAGES, said, self.story)

    def _happen(self, event: Event) -> None:
        scheduler = self.scheduler
        if isinstance(event, Submit):
            self.known[event.request] = Known(event.prompt, event.answer, list(event.prompt))
            scheduler.submit(event.request, event.prompt, event.answer)
        elif isinstance(event, Step):
            self._step(event)
        elif isinstance(event, Preempt):
            scheduler.preempt(event.request)
        elif isinstance(event, Abort):
            scheduler.abort(event.request)
        elif isinstance(event, Evict):
            self.memory.evict()
        elif isinstance(event, Reorder):
            scheduler.reorder(event.turn)

    def _step(self, step: Step) -> None:
        rows: list[BatchRow] = []
        for row in self.scheduler.plan(step.chunk, self._propose(step)):
            if row.request not in self.running or any(one.row.request == row.request for one in rows):
                said = f"request {row.request} is in the batch, and does not run, or is there twice"
                raise Violation(Clause.STEPS, said)
            rows.append(BatchRow(row, self.memory.table(row.request), self._contents(row)))
        census = self.memory.census()
        self._check_pages({request: self.memory.table(request) for request in self.running}, census)
        for one in rows:
            self._write(one)
        for one in rows:
            self._read(one.row.request, one.table, one.contents, one.row.start, census)
        if rows:
            self.batches += 1
            self._judging = True
            self.judge(rows, self.story)
            self._judging = False
        for one in rows:
            self._answer(one.row)

    def _check_pages(self, tables: Mapping[int, Table], census: Mapping[Pool, Census]) -> None:
        check_pages(tables, census, one_memory=self.memory.one_memory)

    def _read(
        self, request: int, table: Table, expected: Sequence[Content], position: int, census: Mapping[Pool, Census]
    ) -> None:
        wrong = self._hits.wrong[request]
        self._written.check(request, table, expected, position, wrong, census, self.running)

    def _propose(self, step: Step) -> Callable[[Sequenced], tuple[int, ...]]:
        def propose(sequence: Sequenced) -> tuple[int, ...]:
            right = continuation(sequence.tokens, step.drafts)
            return tuple(
                token if place < step.accepted else (token + 1) % VOCABULARY for place, token in enumerate(right)
            )

        return propose

    def _write(self, one: BatchRow) -> None:
        row, known = one.row, self.known.get(one.row.request)
        if known is None or known.ended:
            raise Violation(Clause.REQUESTS, f"request {row.request} has ended, and is in a batch")
        stop = row.start + len(row.tokens)
        if tuple(known.tokens[row.start : stop]) != row.tokens or not row.tokens:
            said = f"the batch asks for tokens {row.start} to {stop - 1} of request {row.request}, which are others"
            raise Violation(Clause.STEPS, said)
        if one.table.tokens < row.kv_len:
            said = f"the table of request {row.request} has room for {one.table.tokens} tokens of {row.kv_len}"
            raise Violation(Clause.STEPS, said)
        self._written.write(row.request, one.table, row.start, one.contents[row.start :])

    def _contents(self, row: Row) -> tuple[Content, ...]:
        tokens = self.known[row.request].tokens
        return tuple(contents((*tokens[: row.start + len(row.tokens)], *row.drafts)))

    def _answer(self, row: Row) -> None:
        """Give the scheduler what the model says to a row, and the client its tokens."""
        known, stop = self.known[row.request], row.start + len(row.tokens)
        if stop < len(known.tokens):
            self.scheduler.accept(row, ())
            return
        right = continuation(known.tokens, len(row.drafts) + 1)
        good = next((i for i, draft in enumerate(row.drafts) if draft != right[i]), len(row.drafts))
        if good < len(row.drafts):
            self._written.reject(contents((*known.tokens, *row.drafts))[stop + good :])
        known.tokens += right[: good + 1]
        self.scheduler.accept(row, right[: good + 1])

    def _check(self) -> None:
        check_requests(self.known, self.scheduler)
        for end in self.scheduler.ended:
            known = self.known[end.request]
            if not known.ended:
                known.ended = True
                alone = continuation(known.prompt, known.answer)
                if end.answer != alone[: len(end.answer)] or (end.reason == "finished" and end.answer != alone):
                    raise Violation(Clause.EVENT_ORDER, f"request {end.request} was answered otherwise than alone")
        tables = {request: self.memory.table(request) for request in self.running}
        census = self.memory.census()
        self._check_pages(tables, census)
        for sequence in self.scheduler.running:
            known = self.known[sequence.request]
            written = contents(known.tokens[: sequence.written])
            self._read(sequence.request, tables[sequence.request], written, sequence.written, census)
