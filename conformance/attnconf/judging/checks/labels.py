"""Clauses 13 and 14: other page ids, another layout or other strides give the same answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from attnconf.cases.case import KVLayout, Storage
from attnconf.cases.inputs.layout import place
from attnconf.clauses import Clause
from attnconf.judging.checks import outlines
from attnconf.judging.checks.agreement import Comparison, compare_all
from attnconf.judging.checks.check import always
from attnconf.values import digest

if TYPE_CHECKING:
    from attnconf.cases.case import Paging
    from attnconf.judging.result import Failure
    from attnconf.judging.trial import Trial


def _relabelled(trial: Trial, layer: int) -> list[Failure]:
    if not trial.is_right(layer):
        return []  # a wrong page is read already, so its id matters anyway
    output = trial.run(layer, "relabelled", lambda: trial.posed.copied_batch(place(trial.case, salt=1)))
    comparison = Comparison(Clause.RELABELLING, "relabelled", "the same pages under other ids")
    return compare_all(trial, layer, output, comparison, bitwise=trial.backend.promises.deterministic)


def other_paging(trial: Trial, layer: int) -> Paging | None:
    """Return another layout or storage of the same pages that the backend supports, both if it can, or None."""
    paging = trial.case.paging
    choices = [
        paging.model_copy(update={"layout": layout, "storage": storage})
        for layout in get_args(KVLayout)
        for storage in get_args(Storage)
        if (layout, storage) != (paging.layout, paging.storage)
    ]
    start = int(digest([trial.case.seed, paging.to_data()]), 16) % len(choices)
    turned = [*choices[start:], *choices[:start]]
    turned.sort(key=lambda one: one.layout == paging.layout or one.storage == paging.storage)
    for choice in turned:
        if trial.supports(trial.case.model_copy(update={"paging": choice}), layer):
            return choice
    return None


def _laid_out(trial: Trial, layer: int) -> list[Failure]:
    paging = other_paging(trial, layer)
    if paging is None:
        return []
    variant = trial.case.model_copy(update={"paging": paging})
    name = f"layout {paging.layout}, storage {paging.storage}"
    output = trial.run(layer, name, trial.posed.beside(variant).fresh_batch)
    comparison = Comparison(Clause.LAYOUT, "layout", f"wrong under {name}")
    return compare_all(trial, layer, output, comparison, bitwise=False)


RELABELLED = outlines.RELABELLED.check(always, _relabelled)
LAYOUT = outlines.LAYOUT.check(always, _laid_out)
