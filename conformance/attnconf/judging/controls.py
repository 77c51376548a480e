"""Controls: a wrong backend is asked over plain memory, where a fault in what it sees or sums shows by itself.

Who masks keys by a finite score, and not by minus infinity, reads what its window left behind: over NaN in reclaimed
pages that is told as a dead slot, and over live keys and scores below the mask as what it is.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from attnconf.cases.case import Case, Poison
from attnconf.judging.account import account_of
from attnconf.judging.blame import plain_versions, simpler_versions
from attnconf.judging.removals import as_stored

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from attnconf.judging.result import Failure
    from attnconf.judging.trial import Trial

_ORDINARY_SEED = 5
"""A seed under which neither scores nor sinks lie far from zero."""

_LOW_SEED = 18
"""A seed under which all scores lie near -12,000."""


def behind_what_is_plain(trial: Trial, layer: int, failures: list[Failure]) -> list[Failure]:
    """Return a check's ``failures`` behind what the same backend answers wrongly in plain memory, if it does.

    That is a failure which known mistakes explain. At most three questions are asked, and none of a right backend.
    """
    return _behind(trial, layer, failures, "over plain memory", _plain(trial.case)) if trial.explains else failures


def behind_what_is_supported(trial: Trial, layer: int, failures: list[Failure]) -> list[Failure]:
    """Return the ``failures`` of a shape that is declared unsupported behind what is as wrong where it is supported.

    Who has no window is wrong about every window. The case is asked without one feature each.
    """
    plain = plain_versions(trial, layer, 0)
    simpler = (case for one in plain[:1] for _, case in simpler_versions(one, layer, 0))
    return _behind(trial, layer, failures, "of a shape that it supports", chain(plain, simpler))


def _behind(trial: Trial, layer: int, failures: list[Failure], where: str, cases: Iterable[Case]) -> list[Failure]:
    if not failures:
        return failures
    found = (account_of(trial, case, layer, failures[0].check) for case in cases)
    own = next((one for one in found if one is not None and one.mistakes), None)
    if own is None:
        return failures
    return [replace(own, summary=f"{failures[0].summary}; {where}: {own.summary}"), *failures]


def _plain(case: Case) -> Iterator[Case]:
    paging = case.paging.model_copy(update={"reclaimed": False, "recorded": None})
    plain = case.model_copy(update={"paging": paging, "poison": Poison(k="stale", v="stale")})
    layers = tuple(one.model_copy(update={"logits_soft_cap": None, "sinks": False}) for one in case.layers)
    # numbers of 8 bits do not reach so far
    yield as_stored(plain.model_copy(update={"seed": _LOW_SEED, "layers": layers}), 0, 0)
    yield plain.model_copy(update={"seed": _ORDINARY_SEED})
    if case.mode in {"extend", "mixed"}:
        requests = tuple(
            one.resized(one.prefix_len, 2 + 3 * (index % 2)).model_copy(update={"shares_with": None, "shared_pages": 0})
            for index, one in enumerate(case.requests)
        )
        yield plain.model_copy(update={"seed": _ORDINARY_SEED, "requests": requests, "mode": "extend"})
