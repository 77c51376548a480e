"""The judge: what it records, raises and saves."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from attnconf.backends.protocol import Unsupported
from attnconf.backends.reference import ReferenceBackend
from attnconf.cases.case import Case, Layer
from attnconf.cases.drawing.profiles import Playing, profile_named
from attnconf.cases.geometry import LayerGeometry, ModelGeometry
from attnconf.cases.request import Request
from attnconf.errors import BackendUnavailableError, InvalidInputError, UnbuiltError
from attnconf.judging.result import CaseResult, Outcome
from attnconf.platforms import Platform
from attnconf.report import failure
from attnconf.running.judge import ConformanceFailure, Judge, NotJudged
from attnconf.running.record import Record, Unexecuted
from attnconf.running.session import Session
from attnconf.serving import shorten
from attnconf.serving.managers.own import OwnManager
from attnconf.serving.story import Story

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from attnconf.backends.protocol import Prepared
    from attnconf.cases.inputs.batch import Batch
    from attnconf.cases.shape import KernelShape
    from attnconf.judging.checks.catalogue import CheckSelection

FULL = LayerGeometry(kind="full", num_qo_heads=2, num_kv_heads=1, head_dim=16, sm_scale=0.25)
CASE = Case(mode="decode", layers=(Layer.model_validate(FULL.model_dump()),), requests=(Request(prefix_len=9),))


class Wrong(ReferenceBackend):
    """Doubles every answer."""

    name = "wrong"

    def prepare(self, batch: Batch) -> Prepared:
        right = super().prepare(batch)

        class Doubled:
            def run(self, layer: int, out: torch.Tensor, lse: torch.Tensor | None) -> str:
                kernel = right.run(layer, out, lse)
                out.mul_(2.0)
                return kernel

        return Doubled()


class Picky(ReferenceBackend):
    """Declares everything unsupported, and refuses it."""

    name = "picky"

    def supports(self, shape: KernelShape, platform: Platform) -> Unsupported:
        del shape, platform
        return Unsupported("only on Tuesdays")

    def prepare(self, batch: Batch) -> Prepared:
        del batch
        message = "only on Tuesdays"
        raise NotImplementedError(message)


class Loose(Wrong):
    """Declares everything unsupported, and answers wrongly all the same."""

    name = "loose"
    supports = Picky.supports


def missing(platform: Platform) -> ReferenceBackend:
    """Need a library that is not there."""
    del platform
    message = "needs libfoo"
    raise BackendUnavailableError(message)


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """A judge on a machine without a GPU; ``judge.record`` collects what it records."""
    session = Session(platform=Platform(), profile=replace(profile_named("smoke"), machine=Playing(120, 8)))
    for backend in (Wrong, Picky, Loose, Mirrored):
        session.registry.register(backend.name, lambda _platform, backend=backend: backend())
    session.registry.register("missing", missing)
    return Judge(session, Recorder(), tmp_path / "failures", lambda: {"one": CASE}, failure)


class Mirrored(ReferenceBackend):
    """Reads the first page of a row in place of its second."""

    name = "mirrored"

    def prepare(self, batch: Batch) -> Prepared:
        table = batch.block_tables.clone()
        if table.shape[1] > 1:
            table[:, 1] = table[:, 0]
        return super().prepare(replace(batch, block_tables=table))


class Recorder(list[Record]):
    """Collects what a judge records."""

    def __call__(self, record: Record) -> None:
        self.append(record)


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A model of one tiny layer."""
    path = tmp_path / "toy.json"
    path.write_text(json.dumps(ModelGeometry(name="toy", layers=(FULL,)).to_data()))
    return str(path)


def test_a_passing_family_is_counted(judge: Judge, model: str) -> None:
    judge.explore("decode", model=model, backend="reference")
    (record,) = judge.record
    wanted = profile_named("smoke").examples["decode"]
    assert (record.outcome, record.cases) == (Outcome.PASSED, wanted)
    assert sum(cell.passed for cell in record.cells) == wanted
    assert {(cell.backend, cell.model, cell.mode) for cell in record.cells} == {("reference", "toy", "decode")}


def test_a_failing_family_is_recorded_before_it_is_raised_and_saved(judge: Judge, model: str) -> None:
    with pytest.raises(ConformanceFailure, match="wrong fails case") as caught:
        judge.explore("decode", model=model, backend="wrong")
    (record,) = judge.record
    assert record.outcome is Outcome.FAILED
    assert sum(cell.failed for cell in record.cells) == 1
    (path,) = judge.failures.glob("*-wrong.json")
    saved = Case.read(path)
    assert f"fails case {saved.id}" in str(caught.value)
    assert f"--attnconf-replay={path} --attnconf-backend=wrong" in str(caught.value)
    with pytest.raises(ConformanceFailure, match=saved.id):
        judge.check(saved, backend="wrong")


def test_an_installed_backend_is_replayed_by_the_command_line(judge: Judge) -> None:
    judge.session.isolate = False
    judge.session._here.backends["reference"] = Wrong()
    with pytest.raises(ConformanceFailure, match=rf"replay: attnconf replay \S+{CASE.id}-reference.json --backend ref"):
        judge.check(CASE, backend="reference")


def test_a_missing_backend_counts_its_cases_as_not_run(judge: Judge, model: str) -> None:
    with pytest.raises(NotJudged, match="needs libfoo") as caught:
        judge.explore("decode", model=model, backend="missing")
    assert caught.value.outcome is Outcome.NOT_RUN
    (record,) = judge.record
    assert (record.outcome, record.cases) == (Outcome.NOT_RUN, 0)
    assert sum(cell.not_run for cell in record.cells) == profile_named("smoke").examples["decode"]
    with pytest.raises(NotJudged, match="needs libfoo"):
        judge.check(CASE, backend="missing")
    with pytest.raises(NotJudged, match="needs libfoo"):
        judge.probe_refusals(backend="missing")


def test_unsupported_everywhere_is_not_a_pass(judge: Judge) -> None:
    with pytest.raises(NotJudged, match="only on Tuesdays") as caught:
        judge.check(CASE, backend="picky")
    assert caught.value.outcome is Outcome.UNSUPPORTED
    assert judge.record[0].cases == 0


def test_replay_runs_every_check_and_knows_its_cases(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    run = judge.session.run

    def spy(case: Case, backend: str, checks: CheckSelection = "rotated") -> CaseResult:
        asked.append(checks)
        return run(case, backend, checks)

    monkeypatch.setattr(judge.session, "run", spy)
    judge.replay("one", backend="reference")
    judge.check(CASE, backend="reference")
    assert asked == ["all", "rotated"]
    with pytest.raises(InvalidInputError, match="recorded case 'two'; allowed: one"):
        judge.replay("two", backend="reference")


def test_refusals(judge: Judge) -> None:
    judge.probe_refusals(backend="picky")
    assert judge.record[-1] == Record((), Outcome.PASSED)
    with pytest.raises(NotJudged, match="nothing to refuse"):
        judge.probe_refusals(backend="reference")
    with pytest.raises(ConformanceFailure, match="declares unsupported"):
        judge.probe_refusals(backend="loose")


def test_refusals_of_which_none_was_asked_are_no_pass(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the library would compile for half an hour before it refuses, nothing is asked, and nothing is proven."""

    def unbuilt(*_: object) -> None:
        message = "it would be compiled first"
        raise UnbuiltError(message)

    monkeypatch.setattr(Picky, "prepare", unbuilt)
    with pytest.raises(NotJudged, match="it would be compiled first") as caught:
        judge.probe_refusals(backend="picky")
    assert caught.value.outcome is Outcome.NOT_RUN
    assert judge.record == []


def test_cases_without_a_verdict_count_as_crashed(judge: Judge, model: str) -> None:
    lost = Unexecuted(judge.session, "wrong", Outcome.CRASHED, "the process died")
    record = lost.family("decode", model)
    assert sum(cell.crashed for cell in record.cells) == profile_named("smoke").examples["decode"]
    assert (record.outcome, record.cases) == (Outcome.CRASHED, 0)
    assert lost.case(CASE).cells[0].reasons == {"crashed: the process died": 1}


def test_the_machine_is_played_and_its_batches_are_counted(judge: Judge) -> None:
    judge.play(model="free", backend="reference")
    (record,) = judge.record
    assert (record.outcome, record.cases) == (Outcome.PASSED, 8)
    assert record.played is not None
    assert record.played.count >= 120
    assert (record.played.asked, record.played.broken) == (8, None)
    assert {cell.model for cell in record.cells} == {"free"}


def test_a_wrong_batch_is_told_with_its_story_and_both_commands_repeat_it(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shorten, "SECONDS", 4.0)
    with pytest.raises(ConformanceFailure) as caught:
        judge.play(model="free", backend="mirrored")
    (record,) = judge.record
    (failed,) = record.failures
    assert failed.case.paging.placement == "recorded"
    said = str(caught.value)
    assert "clause 5 (paging)" in said
    (path,) = judge.failures.glob("story-*.json")
    story = Story.read(path)
    assert f"the batch is the last of {len(story.events)} events:\n  1. request " in said
    assert f"replay: attnconf machine --story {path} --backend mirrored" in said
    assert "the batch is the last of" in failed.text
    assert len(story.events) <= 8
    with pytest.raises(ConformanceFailure, match=failed.case.id):
        judge.check(failed.case, backend="mirrored")


def test_a_broken_memory_is_cited_recorded_and_told(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OwnManager, "free", lambda self, request: self.held.pop(request) and None)
    with pytest.raises(ConformanceFailure, match=r"own breaks clause 22 \(conservation of pages\): ") as caught:
        judge.play(model="free", backend="reference")
    (record,) = judge.record
    assert record.outcome is Outcome.FAILED
    assert record.played is not None
    broken = record.played.broken
    assert broken is not None
    assert broken.clause == 22
    assert broken.story[0].startswith("request ")
    assert broken.replay.startswith("attnconf machine --story ")
    assert broken.replay in str(caught.value)


def test_the_batches_of_a_missing_backend_count_as_not_run(judge: Judge) -> None:
    with pytest.raises(NotJudged, match="needs libfoo"):
        judge.play(model="free", backend="missing")
    (record,) = judge.record
    assert sum(cell.not_run for cell in record.cells) == 32
