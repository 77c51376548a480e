"""A case made ready to be asked (``Question``), and asked of one backend (``Trial``)."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import torch

from attnconf.execution import Output, run_layer
from attnconf.inputs.assemble import assemble
from attnconf.inputs.logical import make_logical
from attnconf.layout import place
from attnconf.mistakes import Scene
from attnconf.numerics import Bounded, NumericsProfile, bounded_answer, lse_units, out_units
from attnconf.shape import kernel_shape

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.backends.protocol import Backend, Prepared
    from attnconf.batch import Batch
    from attnconf.case import Case
    from attnconf.inputs.logical import Logical
    from attnconf.layout import Layout
    from attnconf.platforms import Platform


class Question:
    """The parts of a case that do not depend on who answers: logical inputs, layout, batch, right answers."""

    def __init__(self, case: Case, device: torch.device) -> None:
        self.case = case
        self.device = device
        self._answers: dict[tuple[int, int, NumericsProfile], Bounded] = {}

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
        return assemble(self.case, self.layout, self.logical, self.device)

    def rows(self, request: int) -> slice:
        """Return the query rows of ``request`` in the batch."""
        return slice(self.logical.q_starts[request], self.logical.q_starts[request + 1])

    def scene(self, layer: int, request: int) -> Scene:
        """Return one request on one layer, as the mistakes see it."""
        return Scene(self.logical, self.layout, layer, request, self.logical.problem(layer, request, self.device))

    def answer(self, layer: int, request: int, profile: NumericsProfile) -> Bounded:
        """Return the oracle's answer with the bound of a kernel of ``profile``."""
        key = (layer, request, profile)
        if key not in self._answers:
            problem = self.logical.problem(layer, request, self.device)
            self._answers[key] = bounded_answer(problem, profile, self.case.q_dtype)
        return self._answers[key]


class Trial:
    """One case before one backend: runs it, and variants of it, and measures in units."""

    def __init__(self, question: Question, backend: Backend, platform: Platform) -> None:
        self.question = question
        self.case = question.case
        self.backend = backend
        self.platform = platform
        self.outputs: dict[int, Output] = {}
        self._prepared: dict[str, tuple[Prepared, Batch]] = {}

    def prepared(self, name: str, build: Callable[[], Batch]) -> tuple[Prepared, Batch]:
        """Return the batch called ``name``, built and prepared once."""
        if name not in self._prepared:
            batch = build()
            self._prepared[name] = (self.backend.prepare(batch), batch)
        return self._prepared[name]

    def run(self, layer: int, name: str = "base", build: Callable[[], Batch] | None = None, *, lse: bool = True) -> Output:
        """Run ``layer`` on the batch called ``name``; the base batch is the question's own."""
        prepared, batch = self.prepared(name, build or (lambda: self.question.batch))
        return run_layer(prepared, batch, layer, self.backend.promises.lse if lse else None)

    def expected(self, layer: int, request: int) -> Bounded:
        """Return the right answer, bounded for this backend's kernel."""
        return self.question.answer(layer, request, self.backend.numerics(kernel_shape(self.case, layer)))

    def units(self, layer: int, request: int, output: Output, rows: slice, within: slice | None = None) -> float:
        """Return the worst error of ``output[rows]`` in units; they are rows ``within`` of the request's (all)."""
        expected = self.expected(layer, request)
        part = slice_rows(expected, within) if within is not None else expected
        if part.answer.out.numel() == 0:
            return 0.0
        worst = float(out_units(output.out[rows], part).max())
        return worst if output.lse is None else max(worst, float(lse_units(output.lse[rows], part).max()))

    def supports(self, case: Case, layer: int) -> bool:
        """Return whether the backend declares support for ``layer`` of a variant of the case."""
        return self.backend.supports(kernel_shape(case, layer), self.platform) is None


def slice_rows(bounded: Bounded, rows: slice) -> Bounded:
    """Return some query rows of a bounded answer."""
    answer = type(bounded.answer)(bounded.answer.out[rows], bounded.answer.lse[rows])
    return Bounded(answer, bounded.out_bound[rows], bounded.lse_bound[rows])
