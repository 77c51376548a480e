"""StepJudge: each batch of the machine becomes a case, a backend answers it, and the oracle judges every row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnconf.errors import AttnconfError
from attnconf.serving.step_case import step_cases

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from attnconf.cases.case import Case, Layer
    from attnconf.cases.inputs.batch import Pool
    from attnconf.judging.result import CaseResult
    from attnconf.serving.events import Step
    from attnconf.serving.managers.protocol import Manager
    from attnconf.serving.world import BatchRow


class WrongStep(AttnconfError):  # noqa: N818 - a verdict, not an error of attnconf
    """A backend answered a batch of the machine wrongly; ``result`` has the case and its failures."""

    def __init__(self, result: CaseResult) -> None:
        self.result = result
        super().__init__(f"case {result.case.id} failed on {result.backend}")


@dataclass
class StepJudge:
    """Asks ``run`` about each batch, on one of ``geometries`` in turn; one batch of ``every`` is asked, none with 0.

    ``judged`` counts the cases, ``layers`` their layers that were executed, and ``worst`` is the largest error in units
    of the bound. ``record`` gets every case that was asked.
    """

    run: Callable[[Case], CaseResult]
    sizes: Mapping[Pool, int]
    geometries: Sequence[tuple[str, Sequence[Layer]]]
    every: int = 1
    seen: int = 0
    judged: int = 0
    layers: int = 0
    worst: float = 0.0
    record: Callable[[Case], None] | None = None

    def __call__(self, rows: list[BatchRow], step: Step) -> None:
        """Judge one batch. Raises ``WrongStep`` for a wrong answer."""
        self.seen += 1
        if not self.every or self.seen % self.every:
            return
        model, layers = self.geometries[self.seen // self.every % len(self.geometries)]
        for case in step_cases(rows, layers, self.sizes, seed=self.seen, padding=step.padding, model=model):
            result = self.run(case)
            self.judged += 1
            self.layers += sum(layer.outcome.is_executed for layer in result.layers)
            self.worst = max([self.worst, *(layer.worst_units or 0.0 for layer in result.layers)])
            if self.record is not None:
                self.record(case)
            if result.is_failure:
                raise WrongStep(result)


def pool_sizes(memory: Manager) -> dict[Pool, int]:
    """Return the pages of each pool of ``memory``, with the null page."""
    return {pool: max(pages.every) + 1 for pool, pages in memory.census().items()}
