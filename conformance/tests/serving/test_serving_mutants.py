"""Every mutant of the serving room breaks its clause, and the shortest stories have few events."""

from __future__ import annotations

import statistics

import pytest

from attnconf.mutants.source import StaleEditError
from attnconf.serving.mutants.mutant import ServingMutant, hunt
from attnconf.serving.mutants.registry import SERVING_MUTANTS

EVENTS: dict[str, int] = {}


@pytest.mark.parametrize("mutant", SERVING_MUTANTS, ids=lambda mutant: mutant.name)
def test_each_is_caught_by_its_clause(mutant: ServingMutant) -> None:
    caught = hunt(mutant, stories=400)
    assert caught is not None, "escaped"
    assert caught.clause is mutant.clause, str(caught)
    EVENTS[mutant.name] = len(caught.story)
    assert len(caught.story) <= 16, str(caught)


def test_there_are_enough_of_both_kinds_and_no_name_is_given_twice() -> None:
    names = [mutant.name for mutant in SERVING_MUTANTS]
    assert len(set(names)) == len(names) >= 15
    assert {mutant.module for mutant in SERVING_MUTANTS} == {"managers.pages", "managers.own", "scheduler"}


def test_the_median_story_of_those_hunted_here_has_at_most_eight_events() -> None:
    assert not EVENTS or statistics.median(EVENTS.values()) <= 8


def test_an_edit_that_fits_no_more_is_refused_by_name() -> None:
    mutant = SERVING_MUTANTS[0]
    stale = ServingMutant(mutant.name, mutant.summary, mutant.clause, mutant.module, (("no such text", ""),))
    with pytest.raises(StaleEditError, match=r"attnconf\.serving\.managers\.pages has 'no such text' 0 times"):
        hunt(stale, stories=1)
