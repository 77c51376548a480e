"""Declined: why a backend does not execute a layer, as far as that is known before anything runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from attnconf.backends.demands import as_promised, unmet_promise
from attnconf.cases.shape import kernel_shape
from attnconf.judging.result import RAISED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from attnconf.backends.protocol import Promises, Unsupported
    from attnconf.cases.case import Case
    from attnconf.cases.shape import KernelShape


@dataclass
class Declined:
    """What is known of each backend: each shape is asked once, and many at a time.

    ``why_not_here`` says why a case is too large for this machine, ``declared`` what a backend of this name declares
    about shapes; it raises what the backend raises.
    """

    why_not_here: Callable[[Case], str | None]
    declared: Callable[[str, Sequence[KernelShape]], Mapping[KernelShape, Unsupported | None]]
    _known: dict[str, dict[KernelShape, str | None] | None] = field(default_factory=dict, init=False)

    def reasons(self, backend: str, promises: Promises, cases: Sequence[Case]) -> list[list[str | None]]:
        """Return for each layer of ``cases`` why ``backend``, which ``promises``, does not execute it, or None."""
        forms = [as_promised(case, promises) for case in cases]
        known = [self._beyond(form, promises) for form in forms]
        shapes = [
            kernel_shape(form, layer)
            for form, reasons in zip(forms, known, strict=True)
            for layer, reason in enumerate(reasons)
            if reason is None
        ]
        declared = iter(self._unsupported(backend, shapes))
        return [[next(declared) if reason is None else reason for reason in reasons] for reasons in known]

    def _beyond(self, form: Case, promises: Promises) -> list[str | None]:
        """Return for each layer of ``form`` why it is beyond this machine or the ``promises``, or None."""
        too_large = self.why_not_here(form)
        if too_large is not None:
            return [f"the case {too_large}"] * len(form.layers)
        refusals = [unmet_promise(form, layer, promises) for layer in range(len(form.layers))]
        return [None if refusal is None else refusal.reason for refusal in refusals]

    def _unsupported(self, backend: str, shapes: Sequence[KernelShape]) -> list[str | None]:
        """Return why ``backend`` declares each of ``shapes`` unsupported, or None.

        Where a declaration fails, none counts: it is judged where the layer is run.
        """
        known = self._known.setdefault(backend, {})
        unknown = [] if known is None else list(dict.fromkeys(shape for shape in shapes if shape not in known))
        if known is not None and unknown:
            try:
                refusals = self.declared(backend, unknown)
            except RAISED:
                known = self._known[backend] = None
            else:
                known.update((shape, refusal.reason if refusal else None) for shape, refusal in refusals.items())
        return [None if known is None else known[shape] for shape in shapes]
