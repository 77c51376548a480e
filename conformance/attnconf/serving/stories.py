"""Stories: batches of the machine as cases, each with the events that led to it; no backend is asked for them.

What a backend answers changes no event, so all backends are asked the same batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnconf.cases.drawing.draws import by_variety
from attnconf.serving.judge import pool_sizes
from attnconf.serving.machine import Played, play
from attnconf.serving.step_case import step_cases
from attnconf.serving.story import story_seed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnconf.cases.case import Case
    from attnconf.serving.events import Event
    from attnconf.serving.setting import Setting
    from attnconf.serving.world import BatchRow

_STORIES_AT_ONCE = 10
_STARTS_A_SEED = 1_000_003
"""So far apart are the starts of one seed and those of the next."""


@dataclass(frozen=True)
class ToldBatch:
    """A batch as a case, and the events that led to it, the batch being the last."""

    case: Case
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Stories:
    """What was played in ``setting``, and those of its batches that backends are asked, in their order."""

    setting: Setting
    played: Played
    batches: tuple[ToldBatch, ...]


def tell(setting: Setting, *, events: int, batches: int, seed: int, accelerated: bool) -> Stories:
    """Play at least so many events, the same ones for each ``seed``, and keep the most varied of their batches.

    Events take microseconds and batches a tenth of a second, so far fewer ``batches`` are kept than there are.

    Raises ``Violation`` for a clause that the memory or the scheduler breaks.
    """
    memory = setting.factory()
    model, layers = setting.layers(accelerated=accelerated)
    sizes = pool_sizes(memory())
    found: dict[str, ToldBatch] = {}

    def note(rows: list[BatchRow], story: Sequence[Event]) -> None:
        made = step_cases(
            rows, layers, sizes, seed=story_seed(story), story=story, q_dtype=setting.q_dtype, model=model
        )
        for case in made:
            found.setdefault(case.id, ToldBatch(case, tuple(story)))

    played = Played()
    start = seed * _STARTS_A_SEED
    while played.events < events:
        played.join(
            play(
                memory,
                stories=_STORIES_AT_ONCE,
                start=start,
                judge=note,
                drafts=setting.drafts,
                stretch=setting.stretch,
            )
        )
        start += 1
    told = list(found.values())
    kept = sorted(by_variety([batch.case for batch in told])[:batches])
    return Stories(setting, played, tuple(told[index] for index in kept))
