"""Experiments: ask a wrong backend further questions, until the known mistakes that explain its answer differ.

One answer is often that of several mistakes: of three keys the last one may be lost, or the last page; where one key
takes all of the attention a scale does not show; behind a NaN everything is hidden. Each mistake says what its kernel
answers to any question, so it can be held against answers to others: over other keys, in pages of another size, by one
token longer, alone. What it foretells wrongly speaks against it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING

import torch

from attnconf.bounded import out_units
from attnconf.cases.case import Case, Poison
from attnconf.clauses import Clause
from attnconf.judging.blame import plain_versions, simpler_versions
from attnconf.judging.diagnose import foretold, reads_dead_slots
from attnconf.judging.mistakes import MISTAKES
from attnconf.judging.removals import alone

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from attnconf.judging.mistakes import Mistake
    from attnconf.judging.trial import Trial

_ORDINARY_SEEDS = (5, 38, 71)
"""Seeds under which neither scores nor sinks lie far from zero, in the order in which they are asked."""

_SIZES = (16, 32, 64, 8, 1)
"""Page sizes, of which the first is taken that the case has not and the backend supports."""

_OF_ENDS = {Clause.CAUSAL, Clause.PAGING}
"""Clauses of mistakes that lose or read keys, or pages: if none is lost without what is hiding, that is at fault."""

_HIDING = {Clause.WINDOW, Clause.EMPTY_ROWS}
"""Clauses of such features: the end of a window, and requests that shift the others."""

_OF_READER = {Clause.KV_SHARING: {Clause.QUANTISED}}
"""Of such features, clauses that are theirs in a layer that has them: who is right by the same scales without sharing
gives the redirected layer other ones."""

_REQUESTS = 6
"""Most requests of a question that are held against a mistake; those whose answers are most wrong come first."""


@dataclass(frozen=True)
class Findings:
    """What further answers leave: the ``mistakes`` that none of them refutes, and that foretell most of them.

    ``bears`` says that the answer is right as soon as dead slots hold ordinary numbers.
    """

    mistakes: tuple[Mistake, ...] = ()
    bears: bool = False


@dataclass
class _Record:
    """How the forecasts of a mistake came out.

    ``borne`` counts wrong answers that it foretold, ``silent`` right ones against it; ``refuted``: a wrong answer was
    another one. ``matched``: some wrong answer was what it foretold.
    """

    mistake: Mistake
    matched: bool = False
    borne: int = 0
    silent: int = 0
    refuted: bool = False


def ask_further(trial: Trial, layer: int, request: int, suspects: Sequence[Mistake]) -> Findings:
    """Ask the backend further questions about ``layer``; without ``suspects`` every known mistake is one.

    ``request`` is the one with the wrong answer. A wrong answer that a mistake did not foretell refutes it, and so does
    one that is wrong without the feature that it is about. Right answers speak against it: a fault may show under some
    lengths only, but what never shows over other numbers is a matter of these. A question that the backend does not
    take, or that raises, is left out.
    """
    records = [_Record(mistake, matched=True) for mistake in suspects]
    calm, cases = _cases(trial, layer, request)
    explained = bool(records)
    for question in _asked(trial, cases, layer):
        same = question.case.seed == trial.case.seed
        if same and question.is_right(layer) and _is_poisoned(trial.case):
            return Findings(bears=True)
        if not explained:
            records = [] if question.is_right(layer) else [_Record(mistake) for mistake in MISTAKES]
        _judge(records, question, layer, counts=not same)
        if not explained:
            records = [one for one in records if not one.refuted and one.matched]
            explained = bool(records)
    for clause, case in simpler_versions(calm, layer, request):
        clauses = _clauses(records)
        hides = clause in _HIDING and clauses <= _OF_ENDS
        refuting = _OF_ENDS if hides else _OF_READER.get(clause, set())
        if len(clauses) > 1 or clause in clauses or refuting & clauses:
            for question in _asked(trial, [case if hides else _all_as_long(case)], layer):
                _judge(records, question, layer, refuting=refuting)
    return Findings(tuple(one.mistake for one in _left(records)))


def explain_simpler(trial: Trial, layer: int, request: int) -> tuple[Mistake, ...]:
    """Return the mistakes that explain a wrong answer to the case without one of its features, the first such answer.

    A kernel whose rows are numbered wrongly sees no key at all in a window, and other keys without one.
    """
    calm, _ = _cases(trial, layer, request)
    cases = (_all_as_long(case) for _, case in simpler_versions(calm, layer, request))
    for question in _asked(trial, cases, layer):
        if question.is_right(layer):
            continue
        records = [_Record(mistake) for mistake in MISTAKES]
        _judge(records, question, layer)
        for other in _asked(trial, _in_other_pages(trial, question.case, layer), layer):
            _judge(records, other, layer)
        found = tuple(one.mistake for one in records if not one.refuted and one.borne)
        if found:
            return found
    return ()


def _left(records: list[_Record]) -> list[_Record]:
    """Return the records that speak for their mistakes most."""
    standing = [one for one in records if not one.refuted and (one.borne or not one.silent)]
    least = min((one.silent for one in standing), default=0)
    return [one for one in standing if one.silent == least]


def _clauses(records: list[_Record]) -> set[int]:
    return {one.mistake.clause for one in _left(records)}


def _is_poisoned(case: Case) -> bool:
    return bool({case.poison.k, case.poison.v} - {"zero", "stale"})


def _cases(trial: Trial, layer: int, request: int) -> tuple[Case, list[Case]]:
    """Return the case of which features are taken away, and all that is asked before: other numbers, pages, lengths."""
    plain = [case for case in plain_versions(trial, layer, request) if trial.supports(case, layer)] or [trial.case]
    calm = plain[0].model_copy(update={"poison": Poison(k="stale", v="stale")})
    seeded = [calm.model_copy(update={"seed": seed}) for seed in _ORDINARY_SEEDS]
    longer = tuple(one.resized(one.prefix_len + 1, one.new_tokens) for one in calm.requests)
    return seeded[0], [
        calm,
        seeded[0],
        seeded[1].model_copy(update={"poison": Poison(k="zero", v="zero")}),
        *_in_other_pages(trial, seeded[1], layer),
        seeded[2].model_copy(update={"requests": longer}),
        _all_as_long(seeded[1]),
        alone(seeded[2], layer, request),
    ]


def _all_as_long(case: Case) -> Case:
    """Make every request as long as the longest, in full pages: who reads another's pages then reads live keys.

    Of the contents of a dead slot only the kind is foretold.
    """
    longest = max(one.kv_len for one in case.requests)
    length = longest + -longest % case.paging.page_size
    requests = tuple(
        one.resized(length - one.new_tokens, one.new_tokens).model_copy(update={"shares_with": None, "shared_pages": 0})
        for one in case.requests
    )
    return case.model_copy(update={"requests": requests})


def _in_other_pages(trial: Trial, case: Case, layer: int) -> Iterator[Case]:
    for size in _SIZES:
        paging = case.paging.model_copy(update={"page_size": size, "placement": "random", "recorded": None})
        other = case.model_copy(
            update={
                "paging": paging,
                "requests": tuple(
                    one.model_copy(update={"shares_with": None, "shared_pages": 0}) for one in case.requests
                ),
            }
        )
        if size != case.paging.page_size and trial.supports(other, layer):
            yield other
            return


def _asked(trial: Trial, cases: Iterable[Case], layer: int) -> Iterator[Trial]:
    """Yield a trial for each of ``cases`` that the backend could be asked and has answered."""
    for case in cases:
        try:
            valid = Case.model_validate(case.model_dump(by_alias=True))
        except ValueError:
            continue
        if not trial.can_run(valid, layer):
            continue
        question = trial.afresh(valid)
        try:
            question.base(layer)
        except (Exception, SystemExit):  # noqa: BLE001, S112 - a backend may raise anything; then it says nothing
            continue
        yield question


def _judge(
    records: list[_Record], question: Trial, layer: int, *, counts: bool = True, refuting: Collection[int] = ()
) -> None:
    """Hold what each mistake foretells against an answer, which ``counts`` for and against it or can only refute it.

    Right answers refute mistakes of the clauses ``refuting``, too. What a mistake reads in dead slots is known by its
    kind alone: then another answer than the foretold one says nothing, if the answer depends on them at all.
    """
    reads_dead = cache(partial(reads_dead_slots, question, layer))
    requests = _worst_first(question, layer)
    wrong = [one for one in requests if question.base_units(layer, one) > 1.0]
    for record in records:
        if record.refuted:
            continue
        foretold = {one: _foretells(record.mistake, question, layer, one) for one in requests}
        if any(is_so is None for is_so in foretold.values()) and not reads_dead():
            foretold = {one: bool(is_so) for one, is_so in foretold.items()}
        missed = [one for one, is_so in foretold.items() if is_so is False]
        matched = not missed and any(foretold[one] for one in wrong)
        record.refuted = any(one in wrong or record.mistake.clause in refuting for one in missed)
        record.matched |= matched
        record.silent += counts and bool(missed)
        record.borne += counts and matched


def _worst_first(question: Trial, layer: int) -> list[int]:
    requests = range(len(question.case.requests))
    queried = [index for index in requests if question.case.requests[index].new_tokens]
    return sorted(queried, key=lambda index: -question.base_units(layer, index))[:_REQUESTS]


def _foretells(mistake: Mistake, question: Trial, layer: int, request: int) -> bool | None:
    """Return whether the answer to ``request`` is that of a kernel with this mistake; None: it may be."""
    scene = replace(question.posed.scene(layer, request), as_poisoned=True)
    profile = question.numerics(question.shape(layer))
    wrong = foretold(mistake, scene, question.expected(layer, request), profile)
    if wrong is None:
        return question.base_units(layer, request) <= 1.0
    actual = question.base(layer).out[question.posed.rows(request)].double()
    # a row that a mistake leaves without any key may be 0 / 0
    keyless = (wrong.answer.lse == -math.inf)[..., None]
    if not bool(keyless.all()):
        actual = torch.where(keyless & actual.isnan(), wrong.answer.out, actual)
    is_so = bool(torch.isfinite(actual).all()) and float(out_units(actual, wrong).max()) <= 1.0
    return is_so or (None if scene.dead else False)
