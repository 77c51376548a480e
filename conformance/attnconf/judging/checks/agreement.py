"""Compare another run of a backend with its base run: bit for bit where it promises that, else within the bound."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from attnconf.bounded import lse_units, out_units
from attnconf.clauses import Clause
from attnconf.judging.repeats import repeats, same_rows
from attnconf.judging.rerun import Rerun
from attnconf.judging.result import Failure, Place

if TYPE_CHECKING:
    from attnconf.judging.execution import Output
    from attnconf.judging.trial import Trial


@dataclass(frozen=True)
class Comparison:
    """The clause that a difference would break. ``what`` describes how the other run differs from the base run."""

    clause: Clause
    check: str
    what: str


def compare_all(trial: Trial, layer: int, output: Output, comparison: Comparison, *, bitwise: bool) -> list[Failure]:
    """Compare a run of the whole batch with the base run; report the first request that differs."""
    base, rows = trial.base(layer), slice(0, trial.posed.logical.q_starts[-1])
    if bitwise:
        if same_rows(output, base, rows):
            return []
        suspects = list(range(len(trial.case.requests)))
    else:
        suspects = trial.wrong_requests(layer, output)
    for request in suspects:
        rerun = Rerun(layer, request, output, trial.posed.rows(request))
        failure = compare(trial, rerun, comparison, bitwise=bitwise)
        if failure is not None:
            return [failure]
    return []


def compare(trial: Trial, rerun: Rerun, comparison: Comparison, *, bitwise: bool) -> Failure | None:
    """Compare a run with the base run of its request, or with the oracle when ``bitwise`` is not promised."""
    if not bitwise:
        return against_oracle(trial, rerun, comparison)
    base = trial.base_rerun(rerun.layer, rerun.request)
    if same_rows(rerun.output, base.output, rerun.rows, base.rows):
        return None
    comparison = _unless_unrepeated(comparison, trial, rerun.layer)
    comparison = _unless_unwritten(comparison, rerun)
    expected, actual = base.output.out[base.rows].double(), rerun.output.out[rerun.rows].double()
    different = (expected != actual) & ~(expected.isnan() & actual.isnan())
    place = None
    if bool(different.any()):
        token, head, dim = (int(i) for i in different.nonzero()[0])
        place = Place(layer=rerun.layer, request=rerun.request, token=token, head=head, dim=dim)
    changed = f"{int(different.sum())} of {different.numel()} output elements changed, and none may"
    return Failure(
        clause=comparison.clause,
        check=comparison.check,
        layer=rerun.layer,
        units=trial.units(rerun),
        place=place,
        summary=f"{comparison.what}: {changed}",
    )


def against_oracle(trial: Trial, rerun: Rerun, comparison: Comparison) -> Failure | None:
    """Compare a run with the oracle's answer.

    A base run that is itself wrong is reported by the numerics check; another run's error proves nothing then.
    """
    if trial.base_units(rerun.layer, rerun.request) > 1.0:
        return None
    if not trial.is_wrong(rerun):
        return None
    if trial.explains and trial.backend.promises.deterministic:
        comparison = _unless_unrepeated(comparison, trial, rerun.layer)
    comparison = _unless_unwritten(comparison, rerun)
    return Failure(
        clause=comparison.clause,
        check=comparison.check,
        layer=rerun.layer,
        units=trial.units(rerun),
        place=_worst_place(trial, rerun),
        summary=comparison.what,
    )


def _unless_unrepeated(comparison: Comparison, trial: Trial, layer: int) -> Comparison:
    """Return ``comparison``, or where the base run's call does not give its bits again, clause 15's."""
    if repeats(trial, layer):
        return comparison
    what = f"the same call again gives other bits, so nothing can be said of this: {comparison.what}"
    return replace(comparison, clause=Clause.DETERMINISM, what=what)


def _unless_unwritten(comparison: Comparison, rerun: Rerun) -> Comparison:
    """Return ``comparison``, or where the other run did not write all of its output, clause 10's."""
    if not rerun.output.unwritten:
        return comparison
    what = f"{rerun.output.unwritten} elements of the output or the LSE were not written: {comparison.what}"
    return replace(comparison, clause=Clause.READ_ONLY, what=what)


def _worst_place(trial: Trial, rerun: Rerun) -> Place:
    """Return the place of the worst element; dim -1 is the LSE."""
    expected = rerun.expected(trial.expected(rerun.layer, rerun.request, rerun.mode))
    units = out_units(rerun.output.out[rerun.rows], expected)
    token, head, dim = (int(i) for i in (units == units.max()).nonzero()[0])
    if rerun.output.lse is not None:
        by_row = lse_units(rerun.output.lse[rerun.rows], expected)
        if float(by_row.max()) > float(units.max()):
            token, head = (int(i) for i in (by_row == by_row.max()).nonzero()[0])
            dim = -1
    return Place(layer=rerun.layer, request=rerun.request, token=token + rerun.first_token, head=head, dim=dim)
