"""A trial: one backend runs one posed case and variants of it, and its errors are measured in units."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from attnconf.backends.demands import unmet_promise
from attnconf.backends.protocol import declared
from attnconf.bounded import is_within, units_by_row
from attnconf.cases.shape import kernel_shape
from attnconf.judging.execution import Output, run_layer
from attnconf.judging.posed import PosedCase
from attnconf.judging.rerun import Rerun
from attnconf.judging.result import RAISED
from attnconf.judging.surroundings import Surroundings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from attnconf.backends.builds import Build
    from attnconf.backends.protocol import Backend, Prepared, Unsupported
    from attnconf.bounded import Bounded
    from attnconf.cases.case import Case, Mode
    from attnconf.cases.inputs.batch import Batch, BatchRow
    from attnconf.cases.shape import KernelShape
    from attnconf.platforms import Platform
    from attnconf.precision import NumericsProfile

BASE = "base"
"""The name of the posed case's own batch among the batches of a trial."""


class Trial:
    """One case on one backend.

    ``missing`` returns the build that the shape of a variant still lacks: one that needs it is not run. With
    ``explains`` false a wrong answer is recognised but not explained; with ``counts_effects`` false nothing computes
    which features of the case matter. The backend is asked inside ``surroundings`` (None: fresh ones).
    """

    def __init__(  # noqa: PLR0913 - a case, a backend, and how thoroughly
        self,
        posed: PosedCase,
        backend: Backend,
        platform: Platform,
        missing: Callable[[KernelShape], Build | None] = lambda _: None,
        *,
        explains: bool = True,
        counts_effects: bool = True,
        surroundings: Surroundings | None = None,
    ) -> None:
        self.posed = posed
        self.explains = explains
        self.counts_effects = counts_effects
        self._missing = missing
        self.surroundings = Surroundings() if surroundings is None else surroundings
        self.case = posed.case
        self.backend = backend
        self.platform = platform
        self.runs = 0
        self._base: dict[int, Output] = {}
        self._changed: tuple[str | None] | None = None
        self.changed_by_prepare: str | None = None
        self._prepared: dict[str, tuple[Prepared, Batch]] = {}
        self._beside: dict[str, Trial] = {}
        self._again: dict[int, Output | BaseException] = {}
        self._shapes: dict[int, KernelShape] = {}
        self._profiles: dict[KernelShape, NumericsProfile] = {}
        self._declared: dict[KernelShape, bool] = {}
        self._runnable: dict[KernelShape, bool] = {}
        self._base_units: dict[int, list[float]] = {}
        self._asked: tuple[int, ...] = ()

    def afresh(self, case: Case) -> Trial:
        """Return a trial of another case on the same backend, which shares nothing and is not kept."""
        posed = PosedCase(case, self.posed.device)
        return Trial(posed, self.backend, self.platform, self._missing, surroundings=self.surroundings)

    @property
    def asked(self) -> tuple[int, ...]:
        """The layers that are judged: those that answered, here or in the trial beside which this one stands."""
        return self.answered or self._asked

    @property
    def answered(self) -> tuple[int, ...]:
        """The layers whose base run succeeded, in the order in which they ran."""
        return tuple(self._base)

    def base(self, layer: int) -> Output:
        """Return the output of ``layer`` of the case, which runs once. Raises what the backend raises."""
        if layer not in self._base:
            self._base[layer] = self.run(layer)
        return self._base[layer]

    def again(self, layer: int, run: Callable[[], dict[int, Output | BaseException]]) -> Output:
        """Return the output of ``layer`` when all are run again, once, by ``run``. Raises what its run raised."""
        if not self._again:
            self._again = run()
        found = self._again[layer]
        if isinstance(found, BaseException):
            raise found
        return found

    def prepare(self, batch: Batch) -> Prepared:
        """Let the backend build the metadata of ``batch``, whose tensors it may change from now on."""
        self._changed = None
        with self.surroundings.of_torch():
            return self.backend.prepare(batch)

    def prepared(self, name: str, build: Callable[[], Batch]) -> tuple[Prepared, Batch]:
        """Return the batch called ``name``, built and prepared once."""
        if name not in self._prepared:
            batch = build()
            self._prepared[name] = (self.prepare(batch), batch)
            if name == BASE:
                self.changed_by_prepare = self.changed_input()
        return self._prepared[name]

    def run(
        self, layer: int, name: str = BASE, build: Callable[[], Batch] | None = None, *, lse: bool = True
    ) -> Output:
        """Run ``layer`` on the batch called ``name``; the base batch is that of the posed case."""
        prepared, batch = self.prepared(name, build or (lambda: self.posed.batch))
        return self.run_prepared(prepared, batch, layer, lse=lse)

    def run_prepared(self, prepared: Prepared, batch: Batch, layer: int, *, lse: bool = True) -> Output:
        """Run ``layer`` of a prepared batch. Raises what the backend raises."""
        self.runs += 1
        self._changed = None
        base = self.backend.promises.lse if lse else None
        return run_layer(prepared, batch, layer, base, self.surroundings, self.posed.oracle_device)

    def attempt(self, run: Callable[[], Output]) -> Output | BaseException:
        """Return the output of a run, or what the backend raised: the layer's own check raises it."""
        try:
            return run()
        except RAISED as error:
            return error

    def shape(self, layer: int) -> KernelShape:
        """Return the shape of ``layer`` of the case, which is worked out once: it asks all requests."""
        if layer not in self._shapes:
            self._shapes[layer] = kernel_shape(self.case, layer)
        return self._shapes[layer]

    def declares(self, shape: KernelShape) -> Unsupported | None:
        """Return what the backend declares of ``shape``. Raises as ``declared`` does."""
        with self.surroundings.of_torch():
            return declared(self.backend, shape, self.platform)

    def missing(self, shape: KernelShape) -> Build | None:
        """Return the build that ``shape`` still lacks, or None."""
        with self.surroundings.of_torch():
            return self._missing(shape)

    def numerics(self, shape: KernelShape) -> NumericsProfile:
        """Return the profile that the backend declares for ``shape``, for which it is asked once."""
        if shape not in self._profiles:
            with self.surroundings.of_torch():
                self._profiles[shape] = self.backend.numerics(shape)
        return self._profiles[shape]

    def changed_input(self) -> str | None:
        """Return the name of an input whose memory has changed, or None. It is compared once after each run."""
        if self._changed is None:
            self._changed = (self.posed.changed_input(),)
        return self._changed[0]

    def expected(self, layer: int, request: int, mode: Mode | None = None) -> Bounded:
        """Return the right answer with the bound of the kernel for ``mode`` (None: the case's)."""
        shape = self.shape(layer) if mode is None else replace(self.shape(layer), mode=mode)
        return self.posed.answer(layer, request, self.numerics(shape))

    def expected_all(self, layer: int) -> Bounded:
        """Return the right answers to all requests, by query row, with the bound of the kernel for the case's mode."""
        profile = self.numerics(self.shape(layer))
        return self.posed.answers(layer, profile, [other for other in self.asked if self._has(other, profile)])

    def _has(self, layer: int, profile: NumericsProfile) -> bool:
        """Return whether the backend declares ``profile`` for ``layer`` of the case."""
        try:
            return self.numerics(self.shape(layer)) == profile
        except RAISED:  # the layer's own judgement says so
            return False

    def beside(self, case: Case) -> Trial:
        """Return the trial of another case on the same backend: one for all layers, since they share its inputs."""
        name = case.id
        if name not in self._beside:
            posed = self.posed.beside(case)
            beside = Trial(posed, self.backend, self.platform, self._missing, surroundings=self.surroundings)
            beside._asked = self.asked
            self._beside[name] = beside
        return self._beside[name]

    def base_rerun(self, layer: int, request: int) -> Rerun:
        """Return the base run's answer to one request."""
        return Rerun(layer, request, self.base(layer), self.posed.rows(request))

    def base_units(self, layer: int, request: int) -> float:
        """Return the worst error of the base run on one request, in units."""
        return self.all_base_units(layer)[request]

    def all_base_units(self, layer: int) -> list[float]:
        """Return the worst error of the base run on each request, in units."""
        if layer not in self._base_units:
            self._base_units[layer] = self.units_by_request(layer, self.base(layer))
        return self._base_units[layer]

    def units_by_request(self, layer: int, output: Output) -> list[float]:
        """Return the worst error of a run of the whole batch on each request, in units; 0.0 without rows."""
        rows = slice(0, self.posed.logical.q_starts[-1])
        expected = self.expected_all(layer)
        lse = None if output.lse is None else output.lse[rows]
        by_row: list[float] = units_by_row(output.out[rows], lse, expected).tolist()
        starts = self.posed.logical.q_starts
        return [max(by_row[start:stop], default=0.0) for start, stop in pairwise(starts)]

    def wrong_requests(self, layer: int, output: Output) -> list[int]:
        """Return the requests to which a run of the whole batch answered beyond the bound, or NaN."""
        rows = slice(0, self.posed.logical.q_starts[-1])
        lse = None if output.lse is None else output.lse[rows]
        if is_within(output.out[rows], lse, self.expected_all(layer)):
            return []
        return [index for index, found in enumerate(self.units_by_request(layer, output)) if not found <= 1.0]

    def is_right(self, layer: int) -> bool:
        """Return whether the base run of ``layer`` lies within the bound on every request."""
        return all(units <= 1.0 for units in self.all_base_units(layer))

    def units(self, rerun: Rerun) -> float:
        """Return the worst error of a run on one request, in units; 0.0 without rows."""
        expected = rerun.expected(self.expected(rerun.layer, rerun.request, rerun.mode))
        if expected.answer.out.numel() == 0:
            return 0.0
        lse = None if rerun.output.lse is None else rerun.output.lse[rerun.rows]
        return float(units_by_row(rerun.output.out[rerun.rows], lse, expected).max())

    def is_wrong(self, rerun: Rerun) -> bool:
        """Return whether a run's answer to one request lies beyond the bound, or is NaN."""
        expected = rerun.expected(self.expected(rerun.layer, rerun.request, rerun.mode))
        lse = None if rerun.output.lse is None else rerun.output.lse[rerun.rows]
        return not is_within(rerun.output.out[rerun.rows], lse, expected) and not self.units(rerun) <= 1.0

    def supports_rows(self, layer: int, rows: Sequence[BatchRow], mode: Mode) -> bool:
        """Return whether ``layer`` of a batch derived from the case's is declared supported, and built."""
        shape = replace(
            self.shape(layer),
            mode=mode,
            max_q_len=max(row.q_stop - row.q_start for row in rows),
            num_requests=len(rows),
        )
        return self._can_run(shape)

    def supports_hints(self, layer: int, *, max_q_len: int, max_kv_len: int) -> bool:
        """Return whether ``layer`` is declared supported under other host hints, and built."""
        return self._can_run(replace(self.shape(layer), max_q_len=max_q_len, max_kv_len=max_kv_len))

    def supports(self, case: Case, layer: int) -> bool:
        """Return whether ``layer`` of a variant of the case is declared supported, and built."""
        return self._can_run(kernel_shape(case, layer))

    def is_askable(self, case: Case, layer: int) -> bool:
        """Return whether ``layer`` of a variant demands what is promised and is declared supported, built or not."""
        promised = unmet_promise(case, layer, self.backend.promises) is None
        return promised and self._is_declared(kernel_shape(case, layer))

    def can_run(self, case: Case, layer: int) -> bool:
        """Return whether ``layer`` of a variant is askable, and built."""
        return self.is_askable(case, layer) and self.supports(case, layer)

    def _is_declared(self, shape: KernelShape) -> bool:
        if shape not in self._declared:
            with self.surroundings.of_torch():
                self._declared[shape] = self.backend.supports(shape, self.platform) is None
        return self._declared[shape]

    def _can_run(self, shape: KernelShape) -> bool:
        if shape not in self._runnable:
            self._runnable[shape] = self._is_declared(shape) and self.missing(shape) is None
        return self._runnable[shape]
