"""A case made ready to be asked (``Question``), and asked of one backend (``Trial``)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from attnconf.cases.shape import kernel_shape
from attnconf.judging.execution import Output, run_layer
from attnconf.numerics import Bounded, lse_units, out_units

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from attnconf.backends.protocol import Backend, Prepared
    from attnconf.cases.case import Case, Mode
    from attnconf.cases.inputs.batch import Batch, BatchRow
    from attnconf.cases.shape import KernelShape
    from attnconf.judging.posed import Question
    from attnconf.platforms import Platform


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
