"""The machine raises no false alarm on our own memory, tells stories again, and its batches are judged."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import torch

from attnconf.backends import reference
from attnconf.clauses import Clause
from attnconf.judging.checks.catalogue import base_checks
from attnconf.judging.run import run_case
from attnconf.platforms import detect
from attnconf.serving.events import Abort, Evict, Preempt, Reorder, Step, Submit
from attnconf.serving.judge import StepJudge, WrongStep, pool_sizes
from attnconf.serving.layers import small_layers
from attnconf.serving.machine import play
from attnconf.serving.managers.own import OwnManager
from attnconf.serving.shorten import retell
from attnconf.serving.violation import Violation
from attnconf.serving.world import World

if TYPE_CHECKING:
    from attnconf.judging.result import CaseResult


def judge(backend: object = None) -> StepJudge:
    platform = detect()
    run = partial(
        run_case,
        backend=backend or reference.make(platform),
        platform=platform,
        device=torch.device("cpu"),
        choose=base_checks,
        explain=False,
        count_effects=False,
    )
    memory = OwnManager()
    return StepJudge(run, pool_sizes(memory), [("free", small_layers(memory.window_left))])


def test_our_own_memory_and_scheduler_break_no_clause() -> None:
    played = play(OwnManager, stories=60)
    assert played.events > 1000
    assert played.batches > 300
    assert set(played.kinds) == {"Submit", "Step", "Preempt", "Abort", "Evict", "Reorder"}


def test_the_same_start_plays_the_same_stories_and_another_one_others() -> None:
    assert play(OwnManager, stories=10, start=5) == play(OwnManager, stories=10, start=5)
    assert play(OwnManager, stories=10, start=5) != play(OwnManager, stories=10, start=6)


def test_every_batch_of_a_story_is_judged_with_its_own_tables() -> None:
    judged = judge()
    world = World(OwnManager(), judged)
    long = tuple(token % 3 for token in range(21))
    story = [
        Submit(0, long, 6),
        Step(8),
        Step(64),
        Submit(1, (*long[:17], 2, 2), 4),
        Step(64, drafts=3, accepted=2),
        Step(64, drafts=3, accepted=0),
        Preempt(0),
        Reorder(1),
        Step(5, padding=2),
        Evict(),
        Submit(2, long, 3),
        Step(64),
        Abort(1),
    ]
    assert retell(world, story) is None
    assert judged.judged == world.batches >= 8
    assert judged.layers == 4 * judged.judged
    assert 0 < judged.worst < 1


def test_a_backend_that_is_wrong_for_recorded_tables_is_caught_by_the_batches() -> None:
    class Mirrored:
        """Reads the first page of a row in place of its second."""

        def __init__(self) -> None:
            self.right = reference.make(detect())

        def __getattr__(self, name: str) -> object:
            return getattr(self.right, name)

        def prepare(self, batch: object) -> object:
            from dataclasses import replace

            table = batch.block_tables.clone()  # type: ignore[attr-defined]
            if table.shape[1] > 1:
                table[:, 1] = table[:, 0]
            return self.right.prepare(replace(batch, block_tables=table))  # type: ignore[type-var,arg-type]

    with pytest.raises(WrongStep) as caught:
        play(OwnManager, stories=10, judge=judge(Mirrored()))
    result: CaseResult = caught.value.result
    assert result.case.paging.placement == "recorded"
    assert result.is_failure


def test_a_broken_clause_is_told_in_few_events_in_their_order() -> None:
    class Forgetful(OwnManager):
        def free(self, request: int) -> None:
            del self.held[request]

    with pytest.raises(Violation) as caught:
        play(Forgetful, stories=20)
    assert caught.value.clause is Clause.PAGES
    text = str(caught.value)
    assert text.startswith("clause 22 (conservation of pages): ")
    assert "after 2 events:\n  1. request " in text
    assert text.splitlines()[-1].startswith("  2. a batch runs")


def test_a_manager_that_raises_is_a_broken_clause_and_a_judge_that_raises_is_not() -> None:
    class Raises(OwnManager):
        def evict(self) -> None:
            raise IndexError("pop from empty list")

    with pytest.raises(Violation, match=r"clause 25 \(steps\): .* raised IndexError: pop from empty list"):
        play(Raises, stories=5)

    def broken(_rows: object, _step: object) -> None:
        raise IndexError("of the judge")

    with pytest.raises(IndexError, match="of the judge"):
        play(OwnManager, stories=5, judge=broken)
