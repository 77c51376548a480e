"""Judge: what a test of the suite talks to. It explores, counts the evidence, saves what fails, and says how it ended."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnconf.campaign import Exploration
from attnconf.campaign import explore as run_campaign
from attnconf.cells import tally
from attnconf.checks.refusal import probe_refusal
from attnconf.errors import AttnconfError, BackendUnavailableError, InvalidInputError
from attnconf.report.failure import render_failure
from attnconf.result import CaseResult, LayerResult, Outcome
from attnconf.strategies import Space, cases, free_layers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from attnconf.case import Case
    from attnconf.cells import Cell
    from attnconf.session import Session
    from attnconf.spaces import Family

REFUSAL_EXAMPLES = 20


class ConformanceFailure(AttnconfError):  # noqa: N818 - a verdict, not an error of attnconf
    """A backend broke the contract; the text is the whole message."""


class NotJudged(AttnconfError):  # noqa: N818 - an outcome, not an error
    """Nothing was judged: ``outcome`` says in which way, the text why."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        self.outcome = outcome
        super().__init__(reason)


@dataclass
class Judge:
    """Runs cases for one test. ``record`` receives the evidence before a failure is raised."""

    session: Session
    record: Callable[[list[Cell], Outcome], None]
    failures: Path
    replayed: dict[str, Case]

    def explore(self, family: Family, *, model: str, backend: str) -> None:
        """Run the profile's cases of ``family`` for ``model`` on ``backend``.

        Raises ``ConformanceFailure`` with the smallest failing case found, and ``NotJudged`` when no case was executed.
        """
        try:
            self.session.backend(backend)
        except BackendUnavailableError as error:
            self.not_run(family, model=model, backend=backend, reason=str(error))
            raise NotJudged(Outcome.NOT_RUN, str(error)) from None
        self._conclude(self.session.explore(family, model, backend), backend)

    def not_run(self, family: Family, *, model: str, backend: str, reason: str) -> None:
        """Count the cases of ``family`` as not run, without running them."""
        skipped = self.session.explore(family, model, backend, run=lambda case: _not_run(case, backend, reason))
        self.record(tally(skipped.results), Outcome.NOT_RUN)

    def replay(self, name: str, *, backend: str) -> None:
        """Run one recorded case. Raises as ``explore`` does."""
        case = self.replayed[name]
        try:
            result = self.session.run(case, backend)
        except BackendUnavailableError as error:
            self.record(tally([_not_run(case, backend, str(error))]), Outcome.NOT_RUN)
            raise NotJudged(Outcome.NOT_RUN, str(error)) from None
        self._conclude(Exploration([result], result if result.is_failure else None), backend)

    def check(self, case: Case, *, backend: str) -> CaseResult:
        """Run a case of your own on ``backend`` and return what came of it. Raises as ``explore`` does."""
        result = self.session.run(case, backend)
        self._conclude(Exploration([result], result if result.is_failure else None), backend)
        return result

    def probe_refusals(self, *, backend: str) -> None:
        """Ask ``backend`` for shapes that it declares unsupported (clause 20)."""
        try:
            target = self.session.backend(backend)
        except BackendUnavailableError as error:
            raise NotJudged(Outcome.NOT_RUN, str(error)) from None
        space = Space(name="refusal", layers=free_layers(), max_kv_len=64)

        def probe(case: Case) -> CaseResult:
            layers = probe_refusal(case, target, self.session.platform, self.session.device)
            return CaseResult(case=case, backend=target.name, evidence=target.evidence, layers=tuple(layers), checks=("refusal",))

        found = run_campaign(cases(space), probe, examples=REFUSAL_EXAMPLES, campaign_seed=self.session.seed)
        asked = [layer for result in found.results for layer in result.layers]
        if found.failure is not None:
            self._conclude(Exploration([found.failure], found.failure), backend)
        if not asked:
            raise NotJudged(Outcome.UNSUPPORTED, f"{backend} declares everything supported that was drawn")

    def _conclude(self, found: Exploration, backend: str) -> None:
        layers = [layer for result in found.results for layer in result.layers]
        outcomes = {layer.outcome for layer in layers}
        overall = _overall(outcomes)
        self.record(tally(found.results), overall)
        if found.failure is not None:
            path = self._save(found.failure, backend)
            raise ConformanceFailure(render_failure(found.failure, f"attnconf replay {path} --backend {backend}"))
        if overall in {Outcome.UNSUPPORTED, Outcome.NOT_RUN}:
            raise NotJudged(overall, _reasons(layers))

    def _save(self, failure: CaseResult, backend: str) -> Path:
        self.failures.mkdir(parents=True, exist_ok=True)
        path = self.failures / f"{failure.case.id}-{backend}.json"
        path.write_text(json.dumps(failure.case.to_data(), indent=1) + "\n", encoding="utf-8")
        return path


def cases_to_replay(paths: Sequence[Path], shipped: dict[str, Case]) -> dict[str, Case]:
    """Return the cases of the given files and folders, or the shipped ones when none is given."""
    from attnconf.vectors import read_cases

    found: dict[str, Case] = {}
    for path in paths:
        if not path.exists():
            raise InvalidInputError("--attnconf-replay", given=f"{path} does not exist", allowed="a case file or a folder")
        found |= read_cases(path)
    return found or dict(shipped)


def _overall(outcomes: set[Outcome]) -> Outcome:
    """Return the one outcome that stands for a test: the worst failure, else the best evidence, else why not."""
    order = (
        Outcome.FAILED,
        Outcome.CRASHED,
        Outcome.OOM,
        Outcome.REFUSED,
        Outcome.PASSED,
        Outcome.CONTRACT_ONLY,
        Outcome.NOT_RUN,
        Outcome.UNSUPPORTED,
    )
    return next((outcome for outcome in order if outcome in outcomes), Outcome.NOT_RUN)


def _not_run(case: Case, backend: str, reason: str) -> CaseResult:
    layers = tuple(LayerResult(layer=i, outcome=Outcome.NOT_RUN, reason=reason) for i in range(len(case.layers)))
    return CaseResult(case=case, backend=backend, evidence="kernel", layers=layers)


def _reasons(layers: list[LayerResult]) -> str:
    counted = Counter(layer.reason for layer in layers)
    return "; ".join(reason for reason, _ in counted.most_common(3))
