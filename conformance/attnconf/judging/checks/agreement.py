"""How another run of one backend is compared: bit for bit where it promised that, within the bound otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnconf.judging.execution import same_bits
from attnconf.judging.result import Failure, Place
from attnconf.judging.trial import slice_rows
from attnconf.numerics import lse_units, out_units

if TYPE_CHECKING:
    from attnconf.cases.case import Mode
    from attnconf.judging.execution import Output
    from attnconf.judging.trial import Trial


_DETERMINISM = 15


@dataclass(frozen=True)
class Claim:
    """What a comparison would show to be broken; ``what`` says what was different about the other run."""

    clause: int
    check: str
    what: str


def compare_all(trial: Trial, layer: int, output: Output, claim: Claim, *, bitwise: bool) -> list[Failure]:
    """Compare a run of the whole batch with the base run; report the first request that differs."""
    for request in range(len(trial.case.requests)):
        failure = compare(trial, layer, request, output, trial.question.rows(request), claim, bitwise=bitwise)
        if failure is not None:
            return [failure]
    return []


def compare(  # noqa: PLR0913 - what is compared with what
    trial: Trial, layer: int, request: int, output: Output, rows: slice, claim: Claim, *, bitwise: bool
) -> Failure | None:
    """Compare ``output[rows]`` with the base run of ``request``; by the oracle when ``bitwise`` is not promised."""
    if not bitwise:
        return judge(trial, layer, request, output, rows, claim)
    base, own = trial.outputs[layer], trial.question.rows(request)
    same = same_bits(output.out[rows], base.out[own]) and (
        output.lse is None or base.lse is None or same_bits(output.lse[rows], base.lse[own])
    )
    if same:
        return None
    again = trial.run(layer)
    repeats = same_bits(again.out, base.out) and (
        again.lse is None or base.lse is None or same_bits(again.lse, base.lse)
    )
    if not repeats:
        what = f"the same call again gives other bits, so nothing can be said of this: {claim.what}"
        claim = Claim(_DETERMINISM, claim.check, what)
    expected, actual = base.out[own], output.out[rows]
    different = (expected != actual) & ~(expected.isnan() & actual.isnan())
    place = None
    if bool(different.any()):
        token, head, dim = (int(i) for i in different.nonzero()[0])
        place = Place(layer=layer, request=request, token=token, head=head, dim=dim)
    return Failure(
        clause=claim.clause,
        check=claim.check,
        layer=layer,
        units=trial.units(layer, request, output, rows),
        place=place,
        summary=f"{claim.what}: {int(different.sum())} of {different.numel()} output elements changed, and none may",
    )


def judge(  # noqa: PLR0913 - what is judged by what
    trial: Trial,
    layer: int,
    request: int,
    output: Output,
    rows: slice,
    claim: Claim,
    within: slice | None = None,
    mode: Mode | None = None,
) -> Failure | None:
    """Compare ``output[rows]``, run in ``mode`` (the case's), with the oracle's answer to ``request``, rows ``within``.

    Where the base run is wrong itself, the numerics check says so, and a variant's wrong answer proves nothing more.
    """
    if layer in trial.outputs and trial.base_units(layer, request) > 1.0:
        return None
    units = trial.units(layer, request, output, rows, within, mode)
    if units <= 1.0:
        return None
    place = _worst_place(trial, layer, request, output, rows, within, mode)
    return Failure(clause=claim.clause, check=claim.check, layer=layer, units=units, place=place, summary=claim.what)


def _worst_place(  # noqa: PLR0913 - what is judged by what
    trial: Trial, layer: int, request: int, output: Output, rows: slice, within: slice | None, mode: Mode | None
) -> Place:
    """Return where the worst element of ``output[rows]`` stands; dim -1 is the LSE."""
    expected = trial.expected(layer, request, mode)
    part = expected if within is None else slice_rows(expected, within)
    units = out_units(output.out[rows], part)
    if output.lse is not None:
        by_row = lse_units(output.lse[rows], part)
        if float(by_row.max()) > float(units.max()):
            token, head = (int(i) for i in (by_row == by_row.max()).nonzero()[0])
            return Place(layer=layer, request=request, token=token + (within.start if within else 0), head=head, dim=-1)
    token, head, dim = (int(i) for i in (units == units.max()).nonzero()[0])
    return Place(layer=layer, request=request, token=token + (within.start if within else 0), head=head, dim=dim)
