"""Judge: what a test of the suite talks to. It explores, counts the evidence, and saves what fails."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NoReturn, Protocol

from attnconf.errors import AttnconfError, BackendUnavailableError, InvalidInputError
from attnconf.escape import file_name, foreign_command, shell, terminal, terminal_lines
from attnconf.files import write_bytes
from attnconf.gate.failed_case import failed_case
from attnconf.judging.result import CaseResult, Outcome, Reason
from attnconf.running.explore import Exploration, explore
from attnconf.running.played import broken_stories, played_stories, shortest
from attnconf.running.record import Record, Unexecuted, asked_of, recorded
from attnconf.serving.judge import WrongStep
from attnconf.serving.setting import setting_of
from attnconf.serving.story import Story
from attnconf.serving.violation import Violation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from attnconf.cases.case import Case
    from attnconf.cases.drawing.families import Family
    from attnconf.gate.asked import Asked
    from attnconf.judging.checks.catalogue import CheckSelection
    from attnconf.running.session import Session
    from attnconf.serving.setting import Setting


_MOST_REASONS = 3
"""Reasons that the text of one test names."""


class ConformanceFailure(AttnconfError):  # noqa: N818 - a verdict, not an error of attnconf
    """A backend broke the contract; the text is the whole message."""


class NotJudged(AttnconfError):  # noqa: N818 - an outcome, not an error
    """Nothing was judged: ``outcome`` says in which way, ``reasons`` why, and the text is all of them."""

    def __init__(self, outcome: Outcome, *reasons: Reason | str) -> None:
        self.outcome = outcome
        self.reasons = tuple(Reason(one) if isinstance(one, str) else one for one in reasons)
        super().__init__("; also: ".join(one.text for one in self.reasons))


class Words(Protocol):
    """Puts a failing case into words: ``attnconf.report.failure``."""

    def describe_failure(self, result: CaseResult) -> str:
        """Return what is wrong, layer by layer."""

    def render_failure(self, result: CaseResult, replay_command: str) -> str:
        """Return what is wrong, with the case and the command that repeats it."""


@dataclass
class Judge:
    """Runs cases for one test. ``record`` receives the evidence before a failure is raised, ``words`` make its text."""

    session: Session
    record: Callable[[Record], None]
    failures: Path
    replayed: Callable[[], dict[str, Case]]
    words: Words

    def explore(self, family: Family, *, model: str, backend: str) -> None:
        """Run the profile's cases of ``family`` for ``model`` on ``backend``.

        Raises ``ConformanceFailure`` with the smallest failing case found, and ``NotJudged`` when no case was executed.
        """
        reason = self.session.why_not(backend)
        if reason is not None:
            self.not_run(family, model=model, backend=backend, reason=reason)
            raise NotJudged(Outcome.NOT_RUN, reason)
        ask = partial(self.session.ask, backend=backend)
        selection = self.session.selection(backend, family, model)
        found = explore(
            selection.draws,
            partial(ask, explain=False),
            rerun=partial(ask, checks="all", explain=False),
            explain=partial(ask, checks="all"),
        )
        self._conclude(found, backend, family, asked_of(selection))

    def play(self, *, model: str, backend: str) -> None:
        """Ask ``backend`` every batch that the machine of serving plays for ``model``, over our own memory.

        Raises ``ConformanceFailure`` for a clause of 21 to 26 that the memory breaks, and for a wrong batch, with the
        shortest story that was found; ``NotJudged`` when no batch was executed.
        """
        setting = setting_of(model)
        try:
            stories = self.session.stories(model)
        except Violation as broken:
            replay = self._save_story(Story(setting=setting, events=broken.story), f"{setting.memory}-{model}")
            played = broken_stories(broken, setting, backend, model, replay)
            self.record(Record((), Outcome.FAILED, played=played))
            raise ConformanceFailure(
                "\n".join([*terminal_lines(f"{setting.memory} breaks {broken}"), f"replay: {replay}"])
            ) from None
        reason = self.session.why_not(backend)
        if reason is not None:
            self.record(Unexecuted(self.session, backend, Outcome.NOT_RUN, reason).stories(model))
            raise NotJudged(Outcome.NOT_RUN, reason)
        ask = partial(self.session.ask, backend=backend)
        results: list[CaseResult] = []
        for batch in stories.batches:
            results.append(ask(batch.case, explain=False))
            if results[-1].is_failure:
                self._fail_batch(results, WrongStep(results[-1], batch.events), setting, backend)
        record = replace(recorded(results), played=played_stories(stories, backend, model))
        self.record(record)
        if record.outcome in {Outcome.UNSUPPORTED, Outcome.NOT_RUN}:
            raise NotJudged(record.outcome, *_reasons(results))

    def _fail_batch(self, results: list[CaseResult], wrong: WrongStep, setting: Setting, backend: str) -> NoReturn:
        ask = partial(self.session.ask, backend=backend, checks="all")
        accelerated = self.session.platform.sm is not None
        found = shortest(wrong, setting, partial(ask, explain=False), ask, accelerated=accelerated)
        replay = self._save(found.result, backend)
        again = self._save_story(found.story, f"{found.result.case.id}-{file_name(backend)}", backend)
        story = "\n".join([*map(terminal, found.lines), f"replay: {again}"])
        text = f"{self.words.describe_failure(found.result)}\n\n{story}"
        self.record(replace(recorded(results), failures=(failed_case(found.result, text=text, replay=replay),)))
        raise ConformanceFailure(f"{self.words.render_failure(found.result, replay)}\n\n{story}")

    def not_run(self, family: Family, *, model: str, backend: str, reason: str) -> None:
        """Count the cases of ``family`` as not run, without running them."""
        self.record(Unexecuted(self.session, backend, Outcome.NOT_RUN, reason).family(family, model))

    def replay(self, name: str, *, backend: str) -> None:
        """Run one recorded case, with every check. Raises as ``explore`` does."""
        cases = self.replayed()
        if name not in cases:
            asked = f"recorded case {name!r}"
            raise InvalidInputError(asked, allowed=", ".join(cases))
        self._run(cases[name], backend, "all")

    def check(self, case: Case, *, backend: str) -> CaseResult:
        """Run a case of your own on ``backend`` and return what came of it. Raises as ``explore`` does."""
        return self._run(case, backend, "rotated")

    def _run(self, case: Case, backend: str, checks: CheckSelection) -> CaseResult:
        try:
            result = self.session.run(case, backend, checks)
        except BackendUnavailableError as error:
            self.record(Unexecuted(self.session, backend, Outcome.NOT_RUN, str(error)).case(case))
            raise NotJudged(Outcome.NOT_RUN, str(error)) from None
        self._conclude(Exploration([result], result if result.is_failure else None), backend)
        return result

    def probe_refusals(self, *, backend: str) -> None:
        """Ask ``backend`` for shapes that it declares unsupported (clause 20)."""
        try:
            target = self.session.declaration(backend)
        except BackendUnavailableError as error:
            raise NotJudged(Outcome.NOT_RUN, str(error)) from None
        found = explore([self.session.drawn.refusals], partial(self.session.probe, backend=backend))
        if found.failure is not None:
            self._conclude(Exploration([found.failure], found.failure), backend)
        asked = [layer for result in found.results for layer in result.layers]
        if not asked:
            raise NotJudged(Outcome.UNSUPPORTED, f"nothing to refuse: {backend} supports every shape that was drawn")
        if all(layer.outcome is Outcome.NOT_RUN for layer in asked):
            raise NotJudged(Outcome.NOT_RUN, *_reasons(found.results))
        # Refusing proves nothing about a kernel, so it counts in no cell; the test alone says that it went well.
        outcome = Outcome.PASSED if target.evidence == "kernel" else Outcome.CONTRACT_ONLY
        self.record(Record((), outcome))

    def _conclude(
        self, found: Exploration, backend: str, family: Family | None = None, asked: Asked | None = None
    ) -> None:
        record = replace(recorded(found.results), family=family)
        if asked is not None:
            record = replace(record, asked={self.session.declaration(backend).name: asked})
        if found.failure is not None:
            replay = self._save(found.failure, backend)
            kept = failed_case(found.failure, text=self.words.describe_failure(found.failure), replay=replay)
            self.record(replace(record, failures=(kept,)))
            raise ConformanceFailure(self.words.render_failure(found.failure, replay))
        self.record(record)
        if record.outcome in {Outcome.UNSUPPORTED, Outcome.NOT_RUN}:
            raise NotJudged(record.outcome, *_reasons(found.results))

    def _save(self, failure: CaseResult, backend: str) -> str:
        """Save the failing case and return the command that replays it."""
        path = self.failures / f"{failure.case.id}-{file_name(backend)}.json"
        try:
            self.failures.mkdir(parents=True, exist_ok=True)
            write_bytes(path, f"{json.dumps(failure.case.to_data(), indent=1)}\n".encode())
        except OSError as error:
            return foreign_command(f"# the case could not be saved as {path}: {error.strerror}")
        if self.session.registry.registered(backend) is None:
            return shell(["attnconf", "replay", str(path), "--backend", backend])
        # a conftest registered it, and only pytest reads conftest files
        command = ["pytest", "-p", "attnconf", "--pyargs", "attnconf.suite", "--attnconf-profile=replay"]
        return shell([*command, f"--attnconf-replay={path}", f"--attnconf-backend={backend}"])

    def _save_story(self, story: Story, name: str, backend: str = "reference") -> str:
        """Save a story and return the command that tells it again; a backend of a conftest is not known to it."""
        path = self.failures / f"story-{name}.json"
        try:
            self.failures.mkdir(parents=True, exist_ok=True)
            story.write(path)
        except OSError as error:
            return foreign_command(f"# the story could not be saved as {path}: {error.strerror}")
        return shell(["attnconf", "machine", "--story", str(path), "--backend", backend])


def _reasons(results: list[CaseResult]) -> list[Reason]:
    """Return the most frequent reasons of layers."""
    counted = Counter(Reason(layer.reason, layer.unbuilt) for result in results for layer in result.layers)
    return [reason for reason, _ in counted.most_common(_MOST_REASONS)] or [Reason("no case was drawn")]
