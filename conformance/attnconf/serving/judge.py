"""StepJudge: each batch of the machine becomes a case, a backend answers it, and the oracle judges every row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnconf.errors import AttnconfError
from attnconf.judging.result import kinds_of_failure
from attnconf.serving.events import story_lines
from attnconf.serving.step_case import step_cases
from attnconf.serving.story import story_seed
from attnconf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from attnconf.cases.case import Case, Layer
    from attnconf.cases.dtypes import QDtype
    from attnconf.cases.inputs.batch import Pool
    from attnconf.judging.result import CaseResult
    from attnconf.serving.events import Event
    from attnconf.serving.managers.protocol import Manager
    from attnconf.serving.world import BatchRow


class WrongStep(AttnconfError):  # noqa: N818 - a verdict, not an error of attnconf
    """A backend answered a batch of the machine wrongly; ``result`` has the case, ``story`` the events up to it."""

    def __init__(self, result: CaseResult, story: Sequence[Event]) -> None:
        self.result = result
        self.story = tuple(story)
        super().__init__(f"case {result.case.id} failed on {result.backend}")

    @property
    def kind(self) -> object:
        """What is wrong, without the numbers: stories that end in one kind are taken for one bug."""
        return min(kinds_of_failure(self.result))

    @property
    def lines(self) -> list[str]:
        """The story in words."""
        return [f"the batch is the last of {counted(len(self.story), 'event')}:", *story_lines(self.story)]


@dataclass
class StepJudge:
    """Asks ``run`` about each batch, on one of ``geometries``; about one batch of ``every`` is asked, none with 0.

    Seed, geometry and turn follow from the batch's story, so the story alone repeats it. ``judged`` counts the cases,
    ``layers`` their layers that were executed, and ``worst`` is the largest error in units of the bound. ``record``
    gets every case that was asked.
    """

    run: Callable[[Case], CaseResult]
    sizes: Mapping[Pool, int]
    geometries: Sequence[tuple[str, Sequence[Layer]]]
    every: int = 1
    q_dtype: QDtype = "float32"
    judged: int = 0
    layers: int = 0
    worst: float = 0.0
    record: Callable[[Case], None] | None = None

    def __call__(self, rows: list[BatchRow], story: Sequence[Event]) -> None:
        """Judge the last batch of ``story``. Raises ``WrongStep`` for a wrong answer."""
        seed = story_seed(story)
        if not self.every or seed % self.every:
            return
        model, layers = self.geometries[seed // self.every % len(self.geometries)]
        for case in step_cases(rows, layers, self.sizes, seed=seed, story=story, q_dtype=self.q_dtype, model=model):
            result = self.run(case)
            self.judged += 1
            self.layers += sum(layer.outcome.is_executed for layer in result.layers)
            self.worst = max([self.worst, *(layer.worst_units or 0.0 for layer in result.layers)])
            if self.record is not None:
                self.record(case)
            if result.is_failure:
                raise WrongStep(result, story)


def pool_sizes(memory: Manager) -> dict[Pool, int]:
    """Return the pages of each pool of ``memory``, with the null page."""
    return {pool: max(pages.every) + 1 for pool, pages in memory.census().items()}
