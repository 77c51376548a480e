"""Campaigns: the same cases every time, a planted failure shrinks and stays the same failure, nothing is raised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from attnconf.backends.reference import ReferenceBackend
from attnconf.cases.case import Case
from attnconf.cases.drawing.drawn import DrawnCases
from attnconf.cases.drawing.draws import Draws
from attnconf.cases.drawing.profiles import profile_named
from attnconf.cases.drawing.space import Space
from attnconf.cases.drawing.strategies import free_layers
from attnconf.cases.inputs.batch import Batch
from attnconf.cases.inputs.pages import reclaims
from attnconf.errors import UnsupportedError
from attnconf.judging.checks.catalogue import CHECKS, all_checks, rotated_checks
from attnconf.judging.checks.rotation import ROTATED
from attnconf.judging.result import CaseResult, Failure, LayerResult, Outcome
from attnconf.judging.run import run_case
from attnconf.platforms import Platform
from attnconf.running.explore import explore
from attnconf.running.smallest import kinds_of_failure

CPU = torch.device("cpu")
SMALL = Space(name="small", layers=free_layers(), max_kv_len=40, max_new_tokens=4, past_window=False)


def result(case: Case, outcome: Outcome = Outcome.PASSED, error: str = "", check: str = "") -> CaseResult:
    failures = (Failure(clause=1, check=check, summary="planted", layer=0),) if check else ()
    layer = LayerResult(layer=0, outcome=outcome, error=error, failures=failures)
    return CaseResult(case=case, backend="planted", evidence="kernel", layers=(layer,))


def passes(case: Case) -> CaseResult:
    return result(case)


def planted(case: Case) -> CaseResult:
    """Fail by a wrong answer from 3 query heads on, and crash under a soft cap."""
    if case.layers[0].logits_soft_cap:
        return result(case, Outcome.CRASHED, "RuntimeError: no soft cap")
    if case.layers[0].num_qo_heads >= 3:
        return result(case, Outcome.FAILED, check="numerics")
    return result(case)


def test_a_campaign_is_deterministic_and_another_seed_gives_another_one() -> None:
    def ids(campaign_seed: int) -> list[str]:
        return [r.case.id for r in explore([Draws(SMALL, campaign_seed, 30)], passes).results]

    assert ids(1) == ids(1)
    assert ids(1) != ids(2)
    assert len(set(ids(1))) == len(ids(1)) > 20


def test_a_clean_campaign_has_no_failure() -> None:
    assert explore([Draws(SMALL, 0, 10)], passes).failure is None


@pytest.mark.parametrize("campaign_seed", range(4))
def test_a_planted_failure_is_found_and_shrunk_to_its_cause_and_stays_of_its_kind(campaign_seed: int) -> None:
    found = explore([Draws(SMALL, campaign_seed, 200)], planted)
    assert found.failure is not None
    first = found.results[-1]
    assert [r.is_failure for r in found.results] == [False] * (len(found.results) - 1) + [True]
    assert kinds_of_failure(found.failure) == kinds_of_failure(first)
    case = found.failure.case
    assert (len(case.layers), case.seed) == (1, 0)
    if first.layers[0].outcome is Outcome.CRASHED:
        assert case.layers[0].num_qo_heads == 1
    else:
        assert case.layers[0].num_qo_heads in {3, 4}
        assert case.layers[0].logits_soft_cap is None


def test_shrinking_stops_in_time_with_the_failure_at_hand() -> None:
    calls: list[str] = []

    def run(case: Case) -> CaseResult:
        calls.append(case.id)
        return planted(case)

    found = explore([Draws(SMALL, 0, 200)], run, shrink_seconds=0.0)
    assert found.failure is not None
    assert found.failure.case.id == calls[-1]
    assert len(calls) == len(found.results)


def test_shrinking_asks_the_other_function() -> None:
    asked: list[str] = []

    def rerun(case: Case) -> CaseResult:
        asked.append(case.id)
        return planted(case)

    found = explore([Draws(SMALL, 0, 200)], planted, rerun=rerun)
    assert found.failure is not None
    assert found.failure.case.id in asked


def crashes_beyond(keys: int) -> Callable[[Case], CaseResult]:
    """Return a run that crashes on every case with a request of more than ``keys`` keys."""

    def run(case: Case) -> CaseResult:
        outcome = Outcome.CRASHED if case.max_kv_len > keys else Outcome.PASSED
        return result(case, outcome, "RuntimeError: no")

    return run


def test_no_long_case_is_asked_behind_a_failure() -> None:
    draws = DrawnCases(profile_named("gate"), 0, accelerated=True).draws("decode", "gemma4-e2b")
    found = explore(draws, crashes_beyond(0))
    assert found.failure is not None
    assert max(one.case.max_kv_len for one in found.results) < 4096


def test_a_failure_of_a_long_case_is_shown_at_the_shortest_length_that_has_it() -> None:
    draws = DrawnCases(profile_named("gate"), 0, accelerated=True).draws("decode", "gemma4-e2b")
    found = explore(draws, crashes_beyond(5000))
    assert found.failure is not None
    assert found.failure.case.max_kv_len // 16 * 16 == 8192
    assert found.results[-1].case.max_kv_len >= 32_768


def test_the_smallest_failure_and_the_first_one_alone_are_explained() -> None:
    explained: list[str] = []

    def explain(case: Case) -> CaseResult:
        explained.append(case.id)
        return result(case, Outcome.FAILED, check="explained")

    found = explore([Draws(SMALL, 0, 200)], planted, explain=explain)
    assert found.failure is not None
    assert explained == [found.failure.case.id, found.results[-1].case.id]
    assert found.failure.failures[0].check == "explained"


def test_what_does_not_fail_again_when_it_is_to_be_explained_stays_a_failure() -> None:
    found = explore([Draws(SMALL, 0, 200)], planted, explain=passes)
    assert found.failure is not None
    assert found.failure.is_failure


def test_the_tool_s_own_bug_is_raised() -> None:
    def run(_case: Case) -> CaseResult:
        message = "a bug of attnconf"
        raise KeyError(message)

    with pytest.raises(KeyError):
        explore([Draws(SMALL, 0, 5)], run)


def test_kinds_tell_outcomes_checks_and_exceptions_apart() -> None:
    case = explore([Draws(SMALL, 0, 1)], passes).results[0].case
    kinds = [
        kinds_of_failure(result(case, Outcome.FAILED, check="numerics")),
        kinds_of_failure(result(case, Outcome.FAILED, check="layout")),
        kinds_of_failure(result(case, Outcome.CRASHED, "RuntimeError")),
        kinds_of_failure(result(case, Outcome.CRASHED, "IndexError")),
        kinds_of_failure(result(case, Outcome.OOM, "MemoryError")),
        kinds_of_failure(result(case)),
    ]
    assert len(set(kinds)) == 6
    assert kinds[2] == kinds_of_failure(result(case, Outcome.CRASHED, "RuntimeError"))


@dataclass
class Sabotaged(ReferenceBackend):
    """The reference backend, with something done to every output."""

    act: Callable[[torch.Tensor], None]
    name: str = "sabotaged"

    def prepare(self, batch: Batch) -> object:
        inner, act = super().prepare(batch), self.act

        class Run:
            def run(self, layer: int, out: torch.Tensor, lse: torch.Tensor | None) -> str:
                kernel = inner.run(layer, out, lse)
                act(out)
                return kernel

        return Run()


def throw(error: BaseException) -> Callable[[torch.Tensor], None]:
    def act(_out: torch.Tensor) -> None:
        raise error

    return act


@pytest.mark.parametrize(
    ("act", "outcome", "reason"),
    [
        (throw(RuntimeError("a\nb")), Outcome.CRASHED, "RuntimeError: a b"),
        (throw(SystemExit(3)), Outcome.CRASHED, "SystemExit: 3"),
        (throw(MemoryError()), Outcome.OOM, "MemoryError:"),
        (throw(torch.OutOfMemoryError("CUDA out of memory")), Outcome.OOM, "OutOfMemoryError: CUDA out of memory"),
        (throw(UnsupportedError("not that")), Outcome.REFUSED, "UnsupportedError: not that"),
        (lambda out: out.fill_(float("nan")), Outcome.FAILED, ""),
        (lambda out: out.copy_(1.5 * out.float()), Outcome.FAILED, ""),
    ],
)
def test_whatever_a_backend_does_ends_typed_and_the_campaign_goes_on(
    act: Callable[[torch.Tensor], None], outcome: Outcome, reason: str
) -> None:
    def run(case: Case) -> CaseResult:
        ends.extend(run_case(case, Sabotaged(act), Platform(), CPU).layers)
        return passes(case)

    ends: list[LayerResult] = []
    assert len(explore([Draws(SMALL, 3, 4)], run).results) == 4
    assert {layer.outcome for layer in ends} == {outcome}
    assert {layer.reason for layer in ends} == {reason}


@pytest.mark.parametrize("method", ["supports", "numerics", "prepare"])
def test_an_exception_anywhere_in_a_backend_is_a_crash(method: str) -> None:
    def boom(*_: object) -> None:
        message = "boom"
        raise RuntimeError(message)

    backend = type("Boom", (ReferenceBackend,), {method: boom})()
    case = explore([Draws(SMALL, 0, 1)], passes).results[0].case
    outcome = run_case(case, backend, Platform(), CPU)
    assert {layer.outcome for layer in outcome.layers} == {Outcome.CRASHED}
    assert "RuntimeError: boom" in outcome.layers[0].reason


def test_a_crash_in_a_variant_keeps_the_failures_before_it() -> None:
    class Moody(Sabotaged):
        calls = 0

        def prepare(self, batch: Batch) -> object:
            self.calls += 1
            if self.calls > 1:
                message = "only once"
                raise RuntimeError(message)
            return super().prepare(batch)

    case = explore([Draws(SMALL, 0, 1)], passes).results[0].case
    layer = run_case(case, Moody(lambda out: out.fill_(9.0)), Platform(), CPU, choose=all_checks).layers[0]
    assert layer.outcome is Outcome.CRASHED
    assert layer.reason.startswith("in check ")
    assert layer.error == "RuntimeError"
    assert "numerics" in {failure.check for failure in layer.failures}


def test_a_backend_that_changes_its_inputs_fails_and_spoils_no_other_trial() -> None:
    class Writer(ReferenceBackend):
        def prepare(self, batch: Batch) -> object:
            for cache in batch.caches:
                cache.v.view(torch.uint8).fill_(1)
            return super().prepare(batch)

    case = explore([Draws(SMALL, 0, 1)], passes).results[0].case
    spoiled, clean = (run_case(case, backend, Platform(), CPU) for backend in (Writer(), ReferenceBackend()))
    assert "inputs_unchanged" in {failure.check for failure in spoiled.failures}
    assert not clean.is_failure


def test_rotation_gives_every_check_its_turn() -> None:
    drawn = [r.case for r in explore([Draws(SMALL, 0, 60)], passes).results]
    turns = [{check.name for check in rotated_checks(case)} for case in drawn]
    always = {check.name for check in CHECKS if not check.extra}
    assert set().union(*turns) == {check.name for check in CHECKS}
    on_top = {"cuda_graph", "workspace", "corrupted", "reclaimed"}
    assert all(always < turn and len(turn - on_top) == len(always) + ROTATED for turn in turns)
    gone = [reclaims(case) for case in drawn]
    assert ["reclaimed" in turn for turn in turns] == gone
    assert any(gone)
    assert sum(gone) < sum(case.paging.reclaimed for case in drawn)
    assert rotated_checks(drawn[0]) == rotated_checks(drawn[0])
