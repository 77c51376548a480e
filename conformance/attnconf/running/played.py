"""Played: the machine of serving before one backend: its batches asked in order, and what breaks told in few events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnconf.gate.played import BrokenClause, PlayedStories
from attnconf.serving.judge import StepJudge, WrongStep, pool_sizes
from attnconf.serving.shorten import shorten
from attnconf.serving.story import Story
from attnconf.serving.violation import Violation
from attnconf.serving.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.cases.case import Case
    from attnconf.judging.result import CaseResult
    from attnconf.serving.setting import Setting
    from attnconf.serving.stories import Stories


@dataclass(frozen=True)
class WrongBatch:
    """The smallest failing batch that was found, explained, with the ``story`` that ends in it."""

    result: CaseResult
    story: Story
    lines: list[str]


def shortest(
    wrong: WrongStep,
    setting: Setting,
    ask: Callable[[Case], CaseResult],
    explain: Callable[[Case], CaseResult],
    *,
    accelerated: bool,
) -> WrongBatch:
    """Return the failing batch of the shortest story that is found; it breaks in the same way as ``wrong``."""
    memory = setting.factory()
    judge = StepJudge(ask, pool_sizes(memory()), [setting.layers(accelerated=accelerated)], q_dtype=setting.q_dtype)
    found = shorten(wrong, lambda: World(memory(), judge))
    if isinstance(found, Violation):  # two of one kind are of one class: this says so to the reader, and to mypy
        found = wrong
    explained = explain(found.result.case)
    result = explained if explained.is_failure else found.result
    return WrongBatch(result, Story(setting=setting, events=found.story), found.lines)


def played_stories(stories: Stories, backend: str, model: str) -> PlayedStories:
    """Return what a receipt says of ``stories``, whose batches ``backend`` was asked."""
    return PlayedStories(
        backend=backend,
        model=model,
        memory=stories.setting.memory,
        stories=stories.played.stories,
        batches=stories.played.batches,
        asked=len(stories.batches),
        events=dict(sorted(stories.played.kinds.items())),
    )


def broken_stories(broken: Violation, setting: Setting, backend: str, model: str, replay: str) -> PlayedStories:
    """Return what a receipt says of a memory that breaks a clause."""
    clause = BrokenClause(
        clause=broken.clause, said=broken.said, story=tuple(event.text for event in broken.story), replay=replay
    )
    return PlayedStories(backend=backend, model=model, memory=setting.memory, broken=clause)
