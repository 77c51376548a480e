"""The large cases of a run, and which of them do not fit into this machine: shown before the first test."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnconf.judging.footprint import footprint
from attnconf.judging.memory import gigabytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attnconf.cases.case import Case
    from attnconf.cases.drawing.families import Family
    from attnconf.running.session import Session


@dataclass(frozen=True)
class LengthPlan:
    """The long cases of a run and those of serving loads; ``unfit`` counts those that will not run by reason and model.

    ``host`` and ``device`` are the largest needs of the others in bytes, ``room`` what a process has, in words.
    """

    cases: int
    longest: int
    rows: int
    requests: int
    unfit: dict[str, dict[str, int]]
    host: int
    device: int
    room: str

    @property
    def lines(self) -> list[str]:
        """The plan in words; nothing if there is no large case."""
        if not self.cases:
            return []
        needs = f"{gigabytes(self.device)} of GPU and {gigabytes(self.host)} of host memory"
        refused = [
            f"not run: {sum(models.values())} large cases of {', '.join(models)}: each {reason}"
            for reason, models in self.unfit.items()
        ]
        sizes = f"up to {self.longest} keys, {self.rows} new tokens and {self.requests} requests"
        asked = f"{self.cases} large cases for each backend, of {sizes}"
        return [f"{asked}; the largest that run need {needs}, and a process has {self.room}", *refused]


def plan_lengths(session: Session, asked: Iterable[tuple[Family, str]]) -> LengthPlan:
    """Draw the large cases of each ``asked`` (family, model), and compare their needs with the session's memory."""
    cases = [case for family, model in asked for case in session.drawn.large_cases(family, model)]
    unfit: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    fitting: list[Case] = []
    for case in cases:
        reason = session.why_not_here(case)
        if reason is None:
            fitting.append(case)
        else:
            unfit[reason][case.model] += 1
    needs = [footprint(case, accelerated=True) for case in fitting]
    return LengthPlan(
        cases=len(cases),
        longest=max((case.max_kv_len for case in cases), default=0),
        rows=max((request.new_tokens for case in cases for request in case.requests), default=0),
        requests=max((len(case.requests) for case in cases), default=0),
        unfit={reason: dict(models) for reason, models in unfit.items()},
        host=max((need.host for need in needs), default=0),
        device=max((need.device for need in needs), default=0),
        room=session.memory.text,
    )
