"""How another run of one backend is compared: bit for bit where it promised that, within the bound otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnconf.execution import same_bits
from attnconf.result import Failure, Place

if TYPE_CHECKING:
    from attnconf.execution import Output
    from attnconf.trial import Trial


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


def compare(  # noqa: PLR0913, PLR0917 - what is compared with what
    trial: Trial, layer: int, request: int, output: Output, rows: slice, claim: Claim, *, bitwise: bool
) -> Failure | None:
    """Compare ``output[rows]`` with the base run of ``request``; judge by the oracle when ``bitwise`` is not promised."""
    if not bitwise:
        return judge(trial, layer, request, output, rows, claim)
    base, own = trial.outputs[layer], trial.question.rows(request)
    same = same_bits(output.out[rows], base.out[own]) and (
        output.lse is None or base.lse is None or same_bits(output.lse[rows], base.lse[own])
    )
    if same:
        return None
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


def judge(  # noqa: PLR0913, PLR0917 - what is judged by what
    trial: Trial, layer: int, request: int, output: Output, rows: slice, claim: Claim, within: slice | None = None
) -> Failure | None:
    """Compare ``output[rows]`` with the oracle's answer to ``request`` (its rows ``within``)."""
    units = trial.units(layer, request, output, rows, within)
    if units <= 1.0:
        return None
    place = Place(layer=layer, request=request, token=0 if within is None else within.start, head=0, dim=0)
    return Failure(clause=claim.clause, check=claim.check, layer=layer, units=units, place=place, summary=claim.what)
