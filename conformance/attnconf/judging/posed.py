"""A posed case: logical inputs, layout, batch and right answers, which are the same for all backends."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from attnconf.bounded import Bounded, rows_of
from attnconf.cases.inputs.assemble import assemble
from attnconf.cases.inputs.layout import place
from attnconf.cases.inputs.logical import make_logical
from attnconf.judging.execution import copied, same_memory
from attnconf.judging.mistakes import Scene
from attnconf.judging.sizes import HOST_WORK, work
from attnconf.numerics import bounded_answers
from attnconf.precision import NumericsProfile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnconf.cases.case import Case
    from attnconf.cases.inputs.batch import Batch
    from attnconf.cases.inputs.layout import Layout
    from attnconf.cases.inputs.logical import Logical
    from attnconf.oracle.problem import Problem


class PosedCase:
    """The parts of a case that all backends share: logical inputs, layout, batch and right answers.

    Backends run on ``device``. Outputs are copied to ``oracle_device``, which is the CPU for a small case: a GPU takes
    10 us to start each of some thousand operations, and the processes of a campaign would wait for each other there.
    """

    def __init__(self, case: Case, device: torch.device) -> None:
        self.case = case
        self.device = device
        self.oracle_device = torch.device("cpu") if work(case) <= HOST_WORK else device
        self._answers: dict[tuple[int, int | None, NumericsProfile], Bounded] = {}
        self._batch: Batch | None = None
        self._like: tuple[Batch, Layout] | None = None
        self._memory: list[tuple[str, torch.Tensor]] = []
        self._pristine: list[torch.Tensor] = []

    @cached_property
    def logical(self) -> Logical:
        """Queries, keys and values before any page exists, where the oracle works."""
        return make_logical(self.case, self.oracle_device)

    @cached_property
    def layout(self) -> Layout:
        """Where the tokens lie."""
        return place(self.case)

    @property
    def batch(self) -> Batch:
        """The tensors for backends. Nothing may write to them; the read-only check tests that."""
        if self._batch is None:
            self._batch = self.fresh_batch()
            self._memory = self._batch.memory()
            self._pristine = copied([whole for _, whole in self._memory])
        return self._batch

    def fresh_batch(self) -> Batch:
        """Return the tensors anew, whatever a backend did to others."""
        return assemble(self.case, self.layout, self.logical, self.device, self._like)

    def copied_batch(self, layout: Layout | None = None) -> Batch:
        """Return a copy of the batch, or the same pages under the ids of another ``layout`` of the case."""
        return assemble(self.case, layout or self.layout, self.logical, self.device, (self.batch, self.layout))

    @cached_property
    def spare(self) -> Batch:
        """A copy of the tensors that nobody watches: for runs beside another case's."""
        return self.fresh_batch()

    def beside(self, case: Case) -> PosedCase:
        """Return ``case`` posed on the same device.

        Where it differs in memory alone (pages, strides, what is in dead slots) it has this one's inputs and answers.
        """
        posed = PosedCase(case, self.device)
        own = self.case
        memory = {"query": own.query, "poison": own.poison}
        if case.paging.page_size == own.paging.page_size:  # borders of pages have probes
            memory["paging"] = own.paging
        if case.model_copy(update=memory) == own:
            posed.__dict__["logical"] = replace(self.logical, case=case)
            posed._answers = self._answers
            strides = {name: getattr(own.paging, name) for name in ("layout", "storage", "table_slack")}
            if case.paging.model_copy(update=strides) == own.paging:
                posed.__dict__["layout"] = self.layout
                posed._like = (self.batch, self.layout) if case.poison == own.poison else None
        return posed

    def changed_input(self) -> str | None:
        """Return the name of an input whose memory has changed, or None."""
        if self._batch is None or same_memory([whole for _, whole in self._memory], self._pristine):
            return None
        pairs = zip(self._memory, self._pristine, strict=True)
        return next(name for (name, now), before in pairs if not torch.equal(now, before))

    def rows(self, request: int) -> slice:
        """Return the query rows of ``request`` in the batch."""
        return slice(self.logical.q_starts[request], self.logical.q_starts[request + 1])

    def problem(self, layer: int, request: int) -> Problem:
        """Return the oracle's problem for one request on one layer."""
        return self.logical.problem(layer, request, self.oracle_device)

    def scene(self, layer: int, request: int) -> Scene:
        """Return one request on one layer, as input for mistakes."""
        return Scene(self.logical, self.layout, layer, request, self.problem(layer, request))

    def forget_answers(self) -> None:
        """Drop the answers that are kept, so that the next one is worked out anew."""
        self._answers.clear()

    def answers(self, layer: int, profile: NumericsProfile, others: Sequence[int] = ()) -> Bounded:
        """Return the oracle's answers to all requests, by query row, with the bound of a kernel of ``profile``.

        Those of ``others`` that have as many heads of the same widths are worked out beside, for their own calls.
        """
        if (layer, None, profile) not in self._answers:
            alike = [other for other in others if other != layer and self._width(other) == self._width(layer)]
            missing = [layer, *(other for other in alike if (other, None, profile) not in self._answers)]
            requests = range(len(self.case.requests))
            problems = [self.problem(one, request) for one in missing for request in requests]
            whole, rows = bounded_answers(problems, profile, self.case.answer_dtype), self.logical.q_starts[-1]
            for place, one in enumerate(missing):
                self._answers[one, None, profile] = rows_of(whole, slice(place * rows, (place + 1) * rows))
        return self._answers[layer, None, profile]

    def _width(self, layer: int) -> tuple[int, int, int]:
        one = self.case.layers[layer]
        return one.num_qo_heads, one.head_dim, one.value_dim

    def answer(self, layer: int, request: int, profile: NumericsProfile) -> Bounded:
        """Return the oracle's answer to one request; it is a part of ``answers`` where these are known."""
        whole = self._answers.get((layer, None, profile))
        if whole is not None:
            return rows_of(whole, self.rows(request))
        key = (layer, request, profile)
        if key not in self._answers:
            self._answers[key] = bounded_answers([self.problem(layer, request)], profile, self.case.answer_dtype)
        return self._answers[key]
