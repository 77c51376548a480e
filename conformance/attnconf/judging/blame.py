"""Blame: find the feature without which a wrong answer becomes right, by removing one after the other.

A wrong page table reads dead slots, and a wrong window loses visible keys: the keys that were read say little about the
broken clause. If the answer is right as soon as one feature is gone, the bug is in how that feature is served.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from attnconf.cases.case import Case
from attnconf.clauses import Clause
from attnconf.judging.removals import AS_HND, AS_NHD, REMOVALS, Removal, one_head_each
from attnconf.judging.sizes import work

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attnconf.judging.trial import Trial


_LONGEST = 4096
"""Keys of the longest request up to which a case is run again."""

_WORK = 2**24
"""Multiplications of a product of queries and keys up to which one of longer requests is, too."""


def blamed(trial: Trial, layer: int, request: int, symptom: int, *, neutral: bool) -> Removal | None:
    """Return the first removal after which ``trial``'s backend answers right on ``layer``, or None.

    Those that are ``neutral`` are tried, or the others. ``request`` is the one with the wrong answer, ``symptom`` the
    clause to which the wrong answer itself points. A long case gets None: a dozen runs of it would take minutes, and
    shrinking makes it shorter first.
    """
    if trial.case.max_kv_len > _LONGEST and work(trial.case) > _WORK:
        return None
    removals = [
        removal
        for removal in REMOVALS
        if removal.neutral == neutral and (not removal.needs_symptom or removal.clause == symptom)
    ]
    if neutral and not _is_right_without_all(trial, layer, request):
        return None
    case = trial.case
    if not neutral:
        bare = bare_version(case, layer, request)
        if bare != case and _is_wrong(trial, bare, layer):  # what has no feature at all is wrong by none
            case, removals = bare, [removal for removal in removals if removal.of_size]
    simpler = _simpler(case, layer, request, removals)
    cures = (removal for removal, case in simpler if _is_right(trial, case, layer))
    return next((one for one in cures if not _is_wrong_otherwise(one, trial, layer, request)), None)


def _is_wrong_otherwise(removal: Removal, trial: Trial, layer: int, request: int) -> bool:
    """Return whether the answer is wrong after all where the feature is taken away in the other way."""
    if removal.also is None:
        return False
    other = _simpler(trial.case, layer, request, [replace(removal, without=removal.also)])
    return any(trial.supports(case, layer) and not _is_right(trial, case, layer) for _, case in other)


def bare_version(case: Case, layer: int, request: int) -> Case:
    """Return the case without any feature of its layers: full ones over 16-bit numbers near zero."""
    return _plainest(case, layer, request, [one for one in REMOVALS if not (one.neutral or one.of_size)])


def plain_versions(trial: Trial, layer: int, request: int) -> list[Case]:
    """Return the case without all that is ``neutral``, in either layout: it has the same right answer."""
    removals = [removal for removal in REMOVALS if removal.neutral]
    return [
        _plainest(trial.case, layer, request, [one for one in removals if one is not but]) for but in (AS_NHD, AS_HND)
    ]


def needs_groups(trial: Trial, layer: int, request: int) -> bool:
    """Return whether the answer is right as soon as each query head has a KV head of its own."""
    one_each = [removal for removal in REMOVALS if removal.without is one_head_each]
    return any(_is_right(trial, case, layer) for _, case in _simpler(trial.case, layer, request, one_each))


def simpler_versions(case: Case, layer: int, request: int) -> Iterator[tuple[Clause, Case]]:
    """Yield the case without one feature each, with its clause, of those whose absence changes the right answer."""
    removals = [removal for removal in REMOVALS if not removal.neutral and not removal.needs_symptom]
    yield from ((removal.clause, simpler) for removal, simpler in _simpler(case, layer, request, removals))


def _is_right_without_all(trial: Trial, layer: int, request: int) -> bool:
    """Return whether the answer is right without all that is ``neutral`` at once: most of it is not to blame."""
    plainer = set(plain_versions(trial, layer, request))
    return any(case != trial.case and _is_right(trial, case, layer) for case in plainer)


def _plainest(case: Case, layer: int, request: int, removals: list[Removal]) -> Case:
    for removal in removals:
        case = next((simpler for _, simpler in _simpler(case, layer, request, [removal])), case)
    return case


def _simpler(case: Case, layer: int, request: int, removals: list[Removal]) -> Iterator[tuple[Removal, Case]]:
    for removal in removals:
        try:
            simpler = removal.without(case, layer, request)
            valid = Case.model_validate(simpler.model_dump(by_alias=True))
        except ValueError:  # the feature is part of something else that the case needs
            continue
        if valid != case:
            yield removal, valid


def _is_wrong(trial: Trial, case: Case, layer: int) -> bool:
    """Return whether the backend takes ``case`` and answers it wrongly."""
    if not trial.can_run(case, layer):
        return False
    try:
        return not trial.afresh(case).is_right(layer)
    except (Exception, SystemExit):  # noqa: BLE001 - a backend may raise anything; that is another matter
        return False


def _is_right(trial: Trial, case: Case, layer: int) -> bool:
    if not trial.can_run(case, layer):
        return False
    try:
        return trial.afresh(case).is_right(layer)
    except (Exception, SystemExit):  # noqa: BLE001 - a backend may raise anything; then the feature is not to blame
        return False
