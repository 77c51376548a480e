"""Account: a wrong answer as a failure, with the clause that the fault breaks, and why.

An answer that does not repeat breaks clause 15. One that is right in plain memory breaks the clause of what was taken
away. Else known mistakes are held against it, and, as one answer may be that of many, against further questions; then
features are taken away until it is right.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from attnconf.bounded import lse_units, out_units
from attnconf.cases.case import Case
from attnconf.clauses import Clause
from attnconf.judging.blame import blamed, needs_groups
from attnconf.judging.diagnose import OUT_OF_SIGHT, by_mistakes, explain, reads_dead_slots
from attnconf.judging.experiments import ask_further, explain_simpler
from attnconf.judging.explanation import DEAD_SLOT, UNEXPLAINED_CLAUSE
from attnconf.judging.removals import usual_products
from attnconf.judging.repeats import repeats
from attnconf.judging.result import Failure, Place

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch

    from attnconf.judging.explanation import Explanation
    from attnconf.judging.mistakes import Mistake
    from attnconf.judging.removals import Removal
    from attnconf.judging.trial import Trial


def account(trial: Trial, layer: int, check: str) -> Failure | None:
    """Return the failure of the base run's worst request on ``layer``, or None where all are right."""
    worst: tuple[float, int] = (1.0, -1)
    for request in range(len(trial.case.requests)):
        units = trial.base_units(layer, request)
        if units > worst[0]:
            worst = (units, request)
    return None if worst[1] < 0 else _failure(trial, layer, worst[1], check)


def account_of(trial: Trial, case: Case, layer: int, check: str) -> Failure | None:
    """Return the failure of the same backend on ``case``, or None where it is right or cannot be asked that."""
    try:
        valid = Case.model_validate(case.model_dump(by_alias=True))
    except ValueError:
        return None
    if not trial.can_run(valid, layer):
        return None
    try:
        return account(trial.afresh(valid), layer, check)
    except (Exception, SystemExit):  # noqa: BLE001 - a backend may raise anything; then nothing is explained
        return None


def _failure(trial: Trial, layer: int, request: int, check: str) -> Failure:
    output, rows = trial.base(layer), trial.posed.rows(request)
    expected = trial.expected(layer, request)
    by_element = out_units(output.out[rows], expected)
    if float(by_element.max()) <= 1.0 and output.lse is not None:
        lse = lse_units(output.lse[rows], expected)
        token, head = (int(i) for i in (lse == lse.max()).nonzero()[0])
        actual = float(output.lse[rows][token, head])
        found = Failure(
            clause=Clause.SCORES,
            check=check,
            layer=layer,
            units=float(lse.max()),
            place=Place(layer=layer, request=request, token=token, head=head, dim=-1),
            summary=f"LSE {actual:.6g}, but should be {float(expected.answer.lse[token, head]):.6g}",
            diagnosis="the LSE alone is wrong",
        )
        return _of_lse(trial, found, request) if trial.explains else found
    token, head, dim = (int(i) for i in (by_element == by_element.max()).nonzero()[0])
    wanted = float(expected.answer.out[token, head, dim])
    found = Failure(
        clause=UNEXPLAINED_CLAUSE,
        check=check,
        layer=layer,
        units=float(by_element[token, head, dim]),
        place=Place(layer=layer, request=request, token=token, head=head, dim=dim),
        summary=f"out = {float(output.out[rows][token, head, dim]):.6g}, but should be {wanted:.6g}",
    )
    if not trial.explains:
        return found
    if not repeats(trial, layer):
        return _unrepeated(found)
    return _explained(trial, found, _place(found), by_element)


def _of_lse(trial: Trial, found: Failure, request: int) -> Failure:
    """Return the failure ``found`` of the LSE alone, with what further answers say: more may be wrong in them.

    A key too many that counts for little shows in the sum of weights first.
    """
    if not repeats(trial, found.layer):
        return _unrepeated(found)
    mistakes = ask_further(trial, found.layer, request, ()).mistakes
    if not mistakes:
        return found
    said = by_mistakes(mistakes)
    return replace(found, clause=said.clause, suspicion=said.suspicion, mistakes=said.mistakes)


def _unrepeated(found: Failure) -> Failure:
    said = "the same call again gives other bits"
    return replace(found, clause=Clause.DETERMINISM, suspicion=said, diagnosis=said)


def _place(failure: Failure) -> Place:
    assert failure.place is not None  # noqa: S101 - it was found there
    return failure.place


def _explained(trial: Trial, found: Failure, place: Place, by_element: torch.Tensor) -> Failure:
    """Return the failure ``found`` at ``place`` with its clause, keys and suspicion."""
    layer, request = place.layer, place.request
    explanation = explain(trial, layer, request, place.token, place.head)
    removal = blamed(trial, layer, request, explanation.clause, neutral=True)
    if removal is not None and is_right_in_another_shape(trial, trial.case, layer):
        said = f"right in a batch of another shape, and {_without(removal)}: something is kept for calls of this shape"
        return replace(found, clause=Clause.DETERMINISM, suspicion=said, diagnosis="something is kept by shape")
    if removal is None:
        explanation = _held_to_further_answers(trial, layer, request, explanation)
    if removal is None and not explanation.exact:
        if explanation.clause == UNEXPLAINED_CLAUSE and reads_dead_slots(trial, layer):
            explanation = replace(explanation, clause=Clause.DEAD_SLOTS, suspicion=DEAD_SLOT, diagnosis=DEAD_SLOT)
        removal = blamed(trial, layer, request, explanation.clause, neutral=False)
        simpler = () if removal or explanation.clause != UNEXPLAINED_CLAUSE else explain_simpler(trial, layer, request)
        if removal is not None and removal.without is usual_products and explanation.diagnosis == OUT_OF_SIGHT:
            removal = None  # what no row may see is seen, whatever its score is
        if removal is None and explanation.clause is Clause.DEAD_SLOTS:
            # wrong over any contents of dead slots, and not for the rest of a last page: wrong slots are read
            explanation = replace(explanation, clause=Clause.PAGING)
        if simpler:
            explanation = replace(by_mistakes(simpler), keys=explanation.keys, suspicion=_in_simpler(simpler))
    needs = "" if removal is None else _without(removal)
    clause = explanation.clause if removal is None else removal.clause
    if clause is Clause.INDEPENDENCE and explanation.clause is Clause.DEAD_SLOTS:
        clause = Clause.PAGING  # who reads dead slots beside others, and none alone, finds other pages than its own
    if clause is Clause.PAGING and explanation.clause is Clause.CAUSAL and explanation.moved > 0:
        clause = Clause.CAUSAL  # each row sees the keys behind its own: the pages in which they lie are right
    wrong_rows = int((by_element > 1.0).any(dim=2).sum())
    rows = by_element.shape[0] * by_element.shape[1]
    return replace(
        found,
        clause=clause,
        place=explanation.place(layer, request, place.token, place.head, place.dim),
        summary=f"{found.summary} ({wrong_rows} of {rows} rows of the request are wrong)",
        keys=explanation.keys,
        suspicion="; ".join(part for part in (explanation.suspicion, needs) if part),
        diagnosis=explanation.diagnosis or needs,
        mistakes=explanation.mistakes,
    )


def _without(removal: Removal) -> str:
    return f"right without {removal.text}"


def is_right_in_another_shape(trial: Trial, case: Case, layer: int) -> bool:
    """Return whether ``case`` is answered rightly in batches of another shape, for which nothing can have been kept.

    Taking away how a batch lies changes the shape of the call, too, by which plans and graphs are kept.
    """
    try:
        others = [Case.model_validate(one.model_dump(by_alias=True)) for one in _in_other_shapes(case)]
        return all(trial.can_run(one, layer) for one in others) and all(
            trial.afresh(one).is_right(layer) for one in others
        )
    except (Exception, SystemExit):  # noqa: BLE001 - a backend may raise anything, and the case may need its requests
        return False


def _in_other_shapes(case: Case) -> Iterator[Case]:
    """Yield ``case`` with one more request; one of a single request, which may be a trait, with more keys, too."""
    yield with_one_more(case)
    if len(case.requests) == 1:
        (request,) = case.requests
        longer = request.resized(request.prefix_len + 2 * case.paging.page_size, request.new_tokens)
        yield case.model_copy(update={"requests": (longer,)})


def with_one_more(case: Case) -> Case:
    """Return ``case`` with its last request once more, which shares no page."""
    more = case.requests[-1].model_copy(update={"shares_with": None, "shared_pages": 0})
    return case.model_copy(update={"requests": (*case.requests, more)})


def _in_simpler(found: Sequence[Mistake]) -> str:
    return f"{'; or '.join(one.text for one in found)} (that explains the answer to a simpler case)"


def _held_to_further_answers(trial: Trial, layer: int, request: int, first: Explanation) -> Explanation:
    """Return the explanation that further answers bear out: ``first``, another one, or one that is not exact."""
    findings = ask_further(trial, layer, request, first.found)
    if findings.bears:
        if first.clause is Clause.DEAD_SLOTS:
            return replace(first, exact=True)
        said = "the answer is right over other contents of dead slots"
        return replace(first, clause=Clause.DEAD_SLOTS, suspicion=said, diagnosis=DEAD_SLOT, exact=True)
    if findings.mistakes:
        return replace(by_mistakes(findings.mistakes), keys=first.keys, page=first.page, slot=first.slot)
    rest = first.otherwise or first
    if rest.exact and needs_groups(trial, layer, request):
        # rows that are divided among the heads of a group wrongly see the keys of other rows
        return replace(rest, exact=False)
    return rest
