"""Clauses 13 and 14: other page ids, another layout, other strides: the same answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from attnconf.cases.case import KVLayout, Storage
from attnconf.cases.inputs.assemble import assemble
from attnconf.cases.inputs.layout import place
from attnconf.judging.checks.agreement import Claim, compare_all
from attnconf.judging.checks.check import Check, always
from attnconf.values import digest

if TYPE_CHECKING:
    from attnconf.cases.case import Paging
    from attnconf.judging.result import Failure
    from attnconf.judging.trial import Trial


def _relabelled(trial: Trial, layer: int) -> list[Failure]:
    question = trial.question
    if any(trial.base_units(layer, request) > 1.0 for request in range(len(trial.case.requests))):
        return []  # a wrong page was read already: of course its id matters
    output = trial.run(
        layer, "relabelled", lambda: assemble(trial.case, place(trial.case, salt=1), question.logical, question.device)
    )
    claim = Claim(13, "relabelled", "the same pages under other ids")
    return compare_all(trial, layer, output, claim, bitwise=trial.backend.promises.deterministic)


def other_paging(trial: Trial, layer: int) -> Paging | None:
    """Return another layout or storage of the same pages that the backend supports, or None."""
    paging = trial.case.paging
    choices = [
        paging.model_copy(update={"layout": layout, "storage": storage})
        for layout in get_args(KVLayout)
        for storage in get_args(Storage)
        if (layout, storage) != (paging.layout, paging.storage)
    ]
    start = int(digest([trial.case.seed, paging.to_data()]), 16) % len(choices)
    for choice in [*choices[start:], *choices[:start]]:
        if trial.supports(trial.case.model_copy(update={"paging": choice}), layer):
            return choice
    return None


def _laid_out(trial: Trial, layer: int) -> list[Failure]:
    paging = other_paging(trial, layer)
    if paging is None:
        return []
    question = trial.question
    variant = trial.case.model_copy(update={"paging": paging})
    name = f"layout {paging.layout}, storage {paging.storage}"
    output = trial.run(layer, name, lambda: assemble(variant, place(variant), question.logical, question.device))
    return compare_all(trial, layer, output, Claim(14, "layout", f"wrong under {name}"), bitwise=False)


RELABELLED = Check("relabelled", (13,), always, _relabelled)
LAYOUT = Check("layout", (14,), always, _laid_out)
