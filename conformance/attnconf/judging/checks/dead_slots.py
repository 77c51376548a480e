"""Clauses 6 and 7: neither the contents of dead slots nor reclaiming pages behind the window changes a bit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from attnconf.cases.case import Poison
from attnconf.cases.dtypes import FINITE_ALONE
from attnconf.cases.inputs.pages import reclaims
from attnconf.clauses import Clause
from attnconf.judging.checks import outlines
from attnconf.judging.checks.agreement import Comparison, compare_all
from attnconf.judging.checks.check import always
from attnconf.judging.controls import behind_what_is_plain
from attnconf.judging.repeats import same_rows
from attnconf.values import digest

if TYPE_CHECKING:
    from attnconf.cases.case import Case
    from attnconf.judging.result import Failure
    from attnconf.judging.trial import Trial


def other_poison(trial: Trial, layer: int) -> Poison:
    """Return contents for the dead slots that differ from the case's, and that the backend promised to tolerate."""
    case, promises = trial.case, trial.backend.promises
    values = promises.dead_v & promises.reclaimed_v if _has_reclaimed(trial, layer) else promises.dead_v
    none = {"inf"} if case.kv_dtype in FINITE_ALONE else set()
    pairs = [(k, v) for k in sorted(promises.dead_k - none) for v in sorted(values - none)]
    choices = [Poison(k=k, v=v) for k, v in pairs if (k, v) != (case.poison.k, case.poison.v)]
    harsh = [choice for choice in choices if "nan" in {choice.k, choice.v}] or choices
    draw = int(digest([case.seed, case.paging.to_data(), case.poison.to_data()]), 16)
    pool = harsh if draw % 2 else choices
    return pool[draw // 2 % len(pool)]


def _dead_slots(trial: Trial, layer: int) -> list[Failure]:
    poison = other_poison(trial, layer)
    was = trial.case.poison
    what = f"dead slots hold {poison.k} keys and {poison.v} values, not {was.k} and {was.v}"
    variant = trial.case.model_copy(update={"poison": poison})
    failures = _compare_variant(trial, layer, variant, Comparison(Clause.DEAD_SLOTS, "dead_slots", what))
    if failures and _is_gone(trial, layer) and _bears(trial, layer, variant):
        failures = [replace(failure, clause=Clause.RECLAIMED_PAGES) for failure in failures]
    return behind_what_is_plain(trial, layer, failures)


def _bears(trial: Trial, layer: int, variant: Case) -> bool:
    """Return whether the contents of dead slots change no bit where no page is reclaimed."""
    outputs = []
    for one in (trial.case, variant):
        kept = one.model_copy(update={"paging": one.paging.model_copy(update={"reclaimed": False})})
        name = f"kept, {one.poison}"
        outputs.append(trial.run(layer, name, trial.posed.beside(kept).fresh_batch))
    return same_rows(outputs[0], outputs[1], slice(0, trial.posed.logical.q_starts[-1]))


def _reclaimed(trial: Trial, layer: int) -> list[Failure]:
    variant = trial.case.model_copy(update={"paging": trial.case.paging.model_copy(update={"reclaimed": False})})
    comparison = Comparison(Clause.RECLAIMED_PAGES, "reclaimed", "pages behind the window are kept, not reclaimed")
    return behind_what_is_plain(trial, layer, _compare_variant(trial, layer, variant, comparison))


def _compare_variant(trial: Trial, layer: int, variant: Case, comparison: Comparison) -> list[Failure]:
    output = trial.run(layer, comparison.check, trial.posed.beside(variant).fresh_batch)
    return compare_all(trial, layer, output, comparison, bitwise=trial.backend.promises.deterministic)


def _has_reclaimed(trial: Trial, layer: int) -> bool:
    return trial.case.paging.reclaimed and trial.case.layers[layer].kind == "sliding"


def _is_gone(trial: Trial, layer: int) -> bool:
    return _has_reclaimed(trial, layer) and reclaims(trial.case)


DEAD_SLOTS = outlines.DEAD_SLOTS.check(always, _dead_slots)
RECLAIMED = outlines.RECLAIMED.check(_is_gone, _reclaimed)
