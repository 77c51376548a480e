"""A case made ready to be asked (``Question``), and asked of one backend (``Trial``)."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from attnconf.execution import Output, run_layer, same_memory
from attnconf.inputs.assemble import assemble
from attnconf.inputs.logical import make_logical
from attnconf.layout import place
from attnconf.mistakes import Scene
from attnconf.numerics import Bounded, NumericsProfile, bounded_answer, lse_units, out_units
from attnconf.shape import kernel_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from attnconf.backends.protocol import Backend, Prepared
    from attnconf.batch import Batch, BatchRow
    from attnconf.case import Case, Mode
    from attnconf.inputs.logical import Logical
    from attnconf.layout import Layout
    from attnconf.oracle import Problem
    from attnconf.platforms import Platform
    from attnconf.shape import KernelShape


HOST_WORK = 2**20
"""Multiplications of a product of queries and keys up to which answers are judged on the CPU.

What a case claims takes some fifty answers a request: a millisecond each there, and as long on a GPU, which starts them
one operation at a time.
"""

KEPT_WORK = 2**24
"""Up to which a request's keys and values are kept as float64, where they are judged: 256 MiB at most."""


def work(case: Case) -> int:
    """Return the multiplications of the largest product of queries and keys of one request."""
    rows = max(request.new_tokens * request.kv_len for request in case.requests)
    return rows * max(layer.num_qo_heads * layer.head_dim for layer in case.layers)


class Question:
    """The parts of a case that do not depend on who answers: logical inputs, layout, batch, right answers.

    Backends run on ``device``; outputs are read to ``judge``, where the oracle works: for a small case the CPU. A GPU
    takes 10 us to start each of some thousand operations, and the processes of a campaign wait for it in turn.
    """

    def __init__(self, case: Case, device: torch.device) -> None:
        self.case = case
        self.device = device
        self.judge = torch.device("cpu") if work(case) <= HOST_WORK else device
        self._problems: dict[tuple[int, int], Problem] = {}
        self._answers: dict[tuple[int, int, NumericsProfile], Bounded] = {}
        self._memory: list[tuple[str, torch.Tensor]] = []
        self._pristine: list[torch.Tensor] = []

    @cached_property
    def logical(self) -> Logical:
        """Queries, keys and values before any page exists."""
        return make_logical(self.case)

    @cached_property
    def layout(self) -> Layout:
        """Where the tokens lie."""
        return place(self.case)

    @cached_property
    def batch(self) -> Batch:
        """The tensors that backends receive. Nobody may write to them; the read-only check sees to it."""
        batch = self.fresh_batch()
        self._memory = batch.memory()
        self._pristine = [whole.clone() for _, whole in self._memory]
        return batch

    def fresh_batch(self) -> Batch:
        """Return the same tensors once more, in memory of their own."""
        return assemble(self.case, self.layout, self.logical, self.device)

    def changed_input(self) -> str | None:
        """Return the name of an input whose memory is not what it was, or None."""
        if "batch" not in self.__dict__:
            return None
        if same_memory([whole for _, whole in self._memory], self._pristine):
            return None
        pairs = zip(self._memory, self._pristine, strict=True)
        return next(name for (name, now), before in pairs if not torch.equal(now, before))

    def restore(self) -> None:
        """Build the batch anew for the next backend if this one changed it."""
        if self.changed_input() is not None:
            del self.batch

    def rows(self, request: int) -> slice:
        """Return the query rows of ``request`` in the batch."""
        return slice(self.logical.q_starts[request], self.logical.q_starts[request + 1])

    def problem(self, layer: int, request: int) -> Problem:
        """Return the oracle's question for one request on one layer: kept where it is small."""
        key = (layer, request)
        if key in self._problems:
            return self._problems[key]
        problem = self.logical.problem(layer, request, self.judge)
        if work(self.case) <= KEPT_WORK:
            self._problems[key] = problem
        return problem

    def scene(self, layer: int, request: int) -> Scene:
        """Return one request on one layer, as the mistakes see it."""
        return Scene(self.logical, self.layout, layer, request, self.problem(layer, request))

    def answer(self, layer: int, request: int, profile: NumericsProfile) -> Bounded:
        """Return the oracle's answer with the bound of a kernel of ``profile``."""
        key = (layer, request, profile)
        if key not in self._answers:
            self._answers[key] = bounded_answer(self.problem(layer, request), profile, self.case.q_dtype)
        return self._answers[key]


class Trial:
    """One case before one backend: runs it, and variants of it, and measures in units.

    ``missing`` says which build a supported shape still lacks: the variants that need one are not chosen. With
    ``explains`` false a wrong answer is only told from a right one; without ``counts_effects`` nobody asks which
    features of the case matter.
    """

    def __init__(  # noqa: PLR0913 - who is asked what, and how thoroughly
        self,
        question: Question,
        backend: Backend,
        platform: Platform,
        missing: Callable[[KernelShape], str | None] = lambda _: None,
        *,
        explains: bool = True,
        counts_effects: bool = True,
    ) -> None:
        self.question = question
        self.explains = explains
        self.counts_effects = counts_effects
        self.missing = missing
        self.case = question.case
        self.backend = backend
        self.platform = platform
        self.outputs: dict[int, Output] = {}
        self._changed: tuple[str | None] | None = None
        self._prepared: dict[str, tuple[Prepared, Batch]] = {}
        self._base_units: dict[tuple[int, int], float] = {}

    def prepared(self, name: str, build: Callable[[], Batch]) -> tuple[Prepared, Batch]:
        """Return the batch called ``name``, built and prepared once."""
        if name not in self._prepared:
            batch = build()
            self._prepared[name] = (self.backend.prepare(batch), batch)
        return self._prepared[name]

    def run(
        self, layer: int, name: str = "base", build: Callable[[], Batch] | None = None, *, lse: bool = True
    ) -> Output:
        """Run ``layer`` on the batch called ``name``; the base batch is the question's own."""
        self.ran()
        prepared, batch = self.prepared(name, build or (lambda: self.question.batch))
        return run_layer(prepared, batch, layer, self.backend.promises.lse if lse else None, self.question.judge)

    def ran(self) -> None:
        """Note that the backend runs: what it was given may have changed."""
        self._changed = None

    def changed_input(self) -> str | None:
        """Return the name of an input whose memory is not what it was, or None: looked at once after a run."""
        if self._changed is None:
            self._changed = (self.question.changed_input(),)
        return self._changed[0]

    def expected(self, layer: int, request: int, mode: Mode | None = None) -> Bounded:
        """Return the right answer, bounded for the kernel that serves this backend's ``mode`` (the case's)."""
        shape = replace(kernel_shape(self.case, layer), mode=mode or self.case.mode)
        return self.question.answer(layer, request, self.backend.numerics(shape))

    def base_units(self, layer: int, request: int) -> float:
        """Return the worst error of the base run on one request, in units."""
        key = (layer, request)
        if key not in self._base_units:
            self._base_units[key] = self.units(layer, request, self.outputs[layer], self.question.rows(request))
        return self._base_units[key]

    def units(  # noqa: PLR0913 - what is measured by what
        self,
        layer: int,
        request: int,
        output: Output,
        rows: slice,
        within: slice | None = None,
        mode: Mode | None = None,
    ) -> float:
        """Return the worst error of ``output[rows]`` in units; they are rows ``within`` of the request's (all).

        ``mode`` is that of the run (the case's).
        """
        expected = self.expected(layer, request, mode)
        part = slice_rows(expected, within) if within is not None else expected
        if part.answer.out.numel() == 0:
            return 0.0
        worst = out_units(output.out[rows], part).max()
        if output.lse is not None:
            worst = torch.maximum(worst, lse_units(output.lse[rows], part).max())
        return float(worst)

    def supports_rows(self, layer: int, rows: Sequence[BatchRow], mode: Mode) -> bool:
        """Return whether the backend can run ``layer`` of a batch derived from the case's: declared, and built."""
        shape = replace(
            kernel_shape(self.case, layer),
            mode=mode,
            max_q_len=max(row.q_stop - row.q_start for row in rows),
            has_prefix=any(row.kv_stop - row.kv_start > row.q_stop - row.q_start for row in rows),
        )
        return self._can_run(shape)

    def supports(self, case: Case, layer: int) -> bool:
        """Return whether the backend can run ``layer`` of a variant of the case: declared, and built."""
        return self._can_run(kernel_shape(case, layer))

    def _can_run(self, shape: KernelShape) -> bool:
        return self.backend.supports(shape, self.platform) is None and self.missing(shape) is None


def slice_rows(bounded: Bounded, rows: slice) -> Bounded:
    """Return some query rows of a bounded answer."""
    answer = type(bounded.answer)(bounded.answer.out[rows], bounded.answer.lse[rows])
    return Bounded(answer, bounded.out_bound[rows], bounded.lse_bound[rows])
