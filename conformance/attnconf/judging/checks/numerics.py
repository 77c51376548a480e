"""Clauses 1 to 5, 8 to 10, 14 and 18: the answer, and so the LSE, lies within the a-priori bound of the oracle's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.clauses import Clause
from attnconf.judging.blame import blamed
from attnconf.judging.checks.agreement import repeats
from attnconf.judging.checks.check import Check, always
from attnconf.judging.diagnose import UNEXPLAINED_CLAUSE, explain
from attnconf.judging.result import Failure, Place
from attnconf.numerics import lse_units, out_units

if TYPE_CHECKING:
    from attnconf.judging.trial import Trial

CHECK_NAME = "numerics"
ANSWER_CLAUSES = (
    Clause.CAUSAL,
    Clause.WINDOW,
    Clause.SCORES,
    Clause.GQA,
    Clause.PAGING,
    Clause.HYBRID_POOLS,
    Clause.KV_SHARING,
    Clause.READ_ONLY,
    Clause.LAYOUT,
    Clause.DETERMINISM,
    Clause.QUANTISED,
)


def _run(trial: Trial, layer: int) -> list[Failure]:
    worst: tuple[float, int] = (1.0, -1)
    for request in range(len(trial.case.requests)):
        units = trial.base_units(layer, request)
        if units > worst[0]:
            worst = (units, request)
    if worst[1] < 0:
        return []
    return [_failure(trial, layer, worst[1])]


def _failure(trial: Trial, layer: int, request: int) -> Failure:
    output, rows = trial.base(layer), trial.posed.rows(request)
    expected = trial.expected(layer, request)
    by_element = out_units(output.out[rows], expected)
    if float(by_element.max()) <= 1.0 and output.lse is not None:
        lse = lse_units(output.lse[rows], expected)
        token, head = (int(i) for i in (lse == lse.max()).nonzero()[0])
        actual = float(output.lse[rows][token, head])
        return Failure(
            clause=Clause.SCORES,
            check=CHECK_NAME,
            layer=layer,
            units=float(lse.max()),
            place=Place(layer=layer, request=request, token=token, head=head, dim=-1),
            summary=f"LSE {actual:.6g}, but should be {float(expected.answer.lse[token, head]):.6g}",
        )
    token, head, dim = (int(i) for i in (by_element == by_element.max()).nonzero()[0])
    wanted = float(expected.answer.out[token, head, dim])
    if not trial.explains:
        return Failure(
            clause=UNEXPLAINED_CLAUSE,
            check=CHECK_NAME,
            layer=layer,
            units=float(by_element[token, head, dim]),
            place=Place(layer=layer, request=request, token=token, head=head, dim=dim),
            summary=f"out = {float(output.out[rows][token, head, dim]):.6g}, but should be {wanted:.6g}",
        )
    if not repeats(trial, layer):
        return Failure(
            clause=Clause.DETERMINISM,
            check=CHECK_NAME,
            layer=layer,
            units=float(by_element[token, head, dim]),
            place=Place(layer=layer, request=request, token=token, head=head, dim=dim),
            summary=f"out = {float(output.out[rows][token, head, dim]):.6g}, but should be {wanted:.6g}",
            suspicion="the same call again gives other bits",
            diagnosis="the same call again gives other bits",
        )
    explanation = explain(trial, layer, request, token, head)
    removal = blamed(trial, layer, request, explanation.clause, neutral=True)
    if removal is None and not explanation.exact:
        removal = blamed(trial, layer, request, explanation.clause, neutral=False)
    needs = "" if removal is None else f"right without {removal.text}"
    wrong_rows = int((by_element > 1.0).any(dim=2).sum())
    return Failure(
        clause=explanation.clause if removal is None else removal.clause,
        check=CHECK_NAME,
        layer=layer,
        units=float(by_element[token, head, dim]),
        place=explanation.place(layer, request, token, head, dim),
        summary=(
            f"out = {float(output.out[rows][token, head, dim]):.6g}, but should be {wanted:.6g}"
            f" ({wrong_rows} of {by_element.shape[0] * by_element.shape[1]} rows of the request are wrong)"
        ),
        keys=explanation.keys,
        suspicion="; ".join(part for part in (explanation.suspicion, needs) if part),
        diagnosis=explanation.diagnosis or needs,
        mistakes=explanation.mistakes,
    )


CHECK = Check(CHECK_NAME, ANSWER_CLAUSES, always, _run, extra=False)
