"""Sessions: the cases of a seed are the same everywhere, and a backend that does not start is an outcome."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
import torch

from attnconf.backends.demands import unmet_promise, within
from attnconf.backends.protocol import REQUIRED
from attnconf.backends.reference import ReferenceBackend
from attnconf.cases.drawing.lengths import longest_request
from attnconf.cases.drawing.profiles import profile_named
from attnconf.errors import BackendUnavailableError, UnknownBackendError
from attnconf.judging.checks.catalogue import all_checks
from attnconf.judging.result import CaseResult, LayerResult, Outcome
from attnconf.platforms import Platform, simulate
from attnconf.running.agenda import Asked
from attnconf.running.build_plan import PLANNED_CASES, asked_shapes, shapes_asked
from attnconf.running.session import Session

if TYPE_CHECKING:
    from pathlib import Path

    from attnconf.cases.case import Case
    from attnconf.cases.drawing.families import Family
    from attnconf.cases.drawing.profiles import Profile


def a_session(seed: int = 0) -> Session:
    """Return a session of the gate profile on a machine without a GPU."""
    return Session(platform=Platform(), profile=profile_named("gate"), seed=seed)


def drawn(session: Session, family: Family = "free", model: str = "free") -> list[str]:
    """Return the ids of the cases that the session draws, running none of them."""
    return [case.id for case in drawn_cases(session, family, model)]


def drawn_cases(session: Session, family: Family, model: str) -> list[Case]:
    """Return the cases that the session draws, running none of them."""
    found: list[Case] = []

    def run(case: Case) -> CaseResult:
        found.append(case)
        return CaseResult(
            case=case, backend="none", evidence="kernel", layers=(LayerResult(layer=0, outcome=Outcome.NOT_RUN),)
        )

    session.explore(family, model, "none", run=run)
    return found


@pytest.fixture(scope="module")
def free() -> list[str]:
    """Return what a session draws for the free family."""
    return drawn(a_session())


def on_hopper(profile: Profile) -> Session:
    return Session(platform=simulate("9.0"), profile=profile)


def test_on_a_gpu_the_gate_asks_each_mode_and_model_for_long_contexts() -> None:
    gate = profile_named("gate")
    session, between = on_hopper(gate), 0
    for family in ("decode", "extend", "mixed", "verify", "free"):
        for model in gate.targets(family):
            found = session.long_cases(family, model)
            assert len(found) >= 2
            assert all(longest_request(case) >= 32_768 for case in found)
            between += sum(4095 <= request.kv_len <= 16_385 for case in found for request in case.requests)
    assert between >= 10


@pytest.mark.parametrize(("family", "model"), [("decode", "gemma4-e2b"), ("mixed", "llama3-8b"), ("free", "free")])
def test_long_cases_come_on_top_and_change_no_other(family: Family, model: str) -> None:
    gate = profile_named("gate")
    session = on_hopper(gate)
    short = drawn(on_hopper(replace(gate, long_kv_len=0)), family, model)
    long = [case.id for case in session.long_cases(family, model)]
    assert drawn(session, family, model) == [*short, *long]
    assert not set(short) & set(long)


def test_a_cpu_and_the_smoke_profile_get_no_long_case() -> None:
    assert a_session().long_cases("decode", "gemma4-e2b") == ()
    assert max(map(longest_request, drawn_cases(a_session(), "decode", "gemma4-e2b"))) < 1000
    assert on_hopper(profile_named("smoke")).long_cases("decode", "gemma4-e2b") == ()


def test_no_long_case_is_asked_behind_a_failure() -> None:
    session, asked = on_hopper(profile_named("gate")), []

    def fails(case: Case) -> CaseResult:
        asked.append(longest_request(case))
        layers = (LayerResult(layer=0, outcome=Outcome.CRASHED, reason="RuntimeError: no"),)
        return CaseResult(case=case, backend="none", evidence="kernel", layers=layers)

    found = session.explore("decode", "gemma4-e2b", "none", run=fails)
    assert found.failure is not None
    assert max(asked) < 4096


def test_a_failure_of_a_long_case_is_shown_at_the_shortest_length_that_has_it() -> None:
    def fails(case: Case) -> CaseResult:
        outcome = Outcome.CRASHED if longest_request(case) > 5000 else Outcome.PASSED
        layers = (LayerResult(layer=0, outcome=outcome, reason="RuntimeError: no"),)
        return CaseResult(case=case, backend="none", evidence="kernel", layers=layers)

    found = on_hopper(profile_named("gate")).explore("decode", "gemma4-e2b", "none", run=fails)
    assert found.failure is not None
    assert longest_request(found.failure.case) // 16 * 16 == 8192
    assert longest_request(found.results[-1].case) >= 32_768


def test_a_seed_draws_the_same_cases_again_and_another_seed_others(free: list[str]) -> None:
    assert len(free) == len(set(free)) > 0.9 * profile_named("gate").examples["free"]
    assert drawn(a_session()) == free
    assert len(set(drawn(a_session(seed=1))) & set(free)) < 0.1 * len(free)  # the simplest case may be in both


def test_models_and_families_draw_apart() -> None:
    decode = drawn(a_session(), "decode", "gemma4-e2b")
    assert set(decode).isdisjoint(drawn(a_session(), "decode", "gemma4-e4b"))
    assert set(decode).isdisjoint(drawn(a_session(), "extend", "gemma4-e2b"))


def test_the_modules_of_the_process_do_not_change_the_draws(
    free: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = tmp_path / "constants.py"
    source.write_text("VALUES = (" + ", ".join(str(100_000 + 7919 * i) for i in range(200)) + ")\n")
    module = ModuleType("constants_of_the_user")
    module.__file__ = str(source)
    monkeypatch.setitem(sys.modules, "constants_of_the_user", module)
    assert drawn(a_session()) == free


def test_the_draws_leave_hypothesis_as_it_was() -> None:
    from hypothesis.internal.conjecture.providers import HypothesisProvider

    before = HypothesisProvider._maybe_draw_constant
    drawn(a_session())
    assert HypothesisProvider._maybe_draw_constant is before


def test_planning_for_fewer_cases_leaves_the_campaign_whole() -> None:
    """Sessions that differ in profile or seed must not share what was drawn for one of them."""
    profile = profile_named("gate")
    many = replace(profile, examples={**profile.examples, "decode": PLANNED_CASES + 20})
    session = replace(a_session(), profile=many)
    frozenset(shapes_asked(session, [("decode", "llama3-8b")], (), "reference"))
    assert len(session.cases("decode", "llama3-8b")) > PLANNED_CASES
    assert session.refusal_cases() != replace(session, seed=1).refusal_cases()


def test_what_is_planned_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    session = a_session()
    shapes = frozenset(shapes_asked(session, [("decode", "gemma4-e2b")], (), "reference"))
    monkeypatch.setattr("attnconf.cases.drawing.draws.Draws._search", lambda *_: pytest.fail("drawn again"))
    assert frozenset(shapes_asked(session, [("decode", "gemma4-e2b")], (), "reference")) == shapes
    assert session.cases("decode", "gemma4-e2b")


def test_a_backend_is_made_once() -> None:
    session, made = a_session(), []
    session.registry.register("toy", lambda platform: made.append(platform) or ReferenceBackend())  # type: ignore[func-returns-value]
    assert session.backend("toy") is session.backend("toy")
    assert len(made) == 1
    assert session.why_not("toy") is None


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BackendUnavailableError("needs libfoo"), "needs libfoo"),
        (ImportError("no libbar"), "backend toy does not start: ImportError: no libbar; "),
        (SystemExit(4), "backend toy ends the process: exit 4; "),
    ],
)
def test_a_backend_that_does_not_start_says_why_each_time(error: BaseException, reason: str) -> None:
    session = a_session()

    def make(platform: Platform) -> ReferenceBackend:
        del platform
        raise error

    session.registry.register("toy", make)
    assert str(session.why_not("toy")).startswith(reason)
    with pytest.raises(BackendUnavailableError, match=reason):
        session.backend("toy")


@pytest.mark.parametrize(
    ("isolate", "sm", "installed", "registered"),
    [(None, None, False, False), (None, (9, 0), True, False), (True, None, True, True), (False, (9, 0), False, False)],
)
def test_on_a_gpu_installed_backends_run_apart(
    isolate: bool | None,  # noqa: FBT001 - a value of the field
    sm: tuple[int, int] | None,
    *,
    installed: bool,
    registered: bool,
) -> None:
    session = Session(platform=Platform(sm=sm), profile=profile_named("smoke"), isolate=isolate)
    session.registry.register("mine", lambda _: ReferenceBackend())
    assert session.isolates("reference") is installed
    assert session.isolates("mine") is registered


def test_an_unknown_backend_is_not_an_unavailable_one() -> None:
    with pytest.raises(UnknownBackendError, match=r"allowed: .*reference, .*triton"):
        a_session().why_not("nobody")


def test_cases_run_on_one_thread() -> None:
    torch.set_num_threads(2)
    a_session()
    assert torch.get_num_threads() == 1


class Tender(ReferenceBackend):
    """Right, and promises as little as it may."""

    promises = replace(
        ReferenceBackend.promises,
        dead_k=REQUIRED,
        dead_v=REQUIRED,
        reclaimed_v=REQUIRED,
        table_tail=frozenset({"null"}),
        empty_kv=False,
        empty_q=False,
    )


def test_a_backend_of_few_promises_is_asked_every_drawn_case_and_a_recorded_one_as_it_is() -> None:
    session = replace(a_session(), profile=profile_named("smoke"))
    session.registry.register("tender", lambda _platform: Tender())
    drawn = session.cases("decode", "gemma4-e2b")
    found = session.explore("decode", "gemma4-e2b", "tender")
    assert len(found.results) == len(drawn)
    assert {layer.outcome for result in found.results for layer in result.layers} == {Outcome.PASSED}
    beyond = next(case for case in drawn if unmet_promise(case, 0, Tender.promises))
    assert session.run(beyond, "tender").layers[0].outcome is Outcome.UNSUPPORTED
    asked = Asked(beyond, "decode", "gemma4-e2b").of(session, "tender")
    assert {layer.outcome for layer in asked.layers} == {Outcome.PASSED}
    assert asked.case != beyond


def test_a_recorded_case_is_planned_with_every_check_and_not_at_all_of_who_does_not_bear_it() -> None:
    session = a_session()
    session.registry.register("tender", lambda _platform: Tender())
    case = next(case for case in session.cases("decode", "gemma4-e2b") if unmet_promise(case, 0, Tender.promises))
    every = frozenset(asked_shapes(case, all_checks))
    assert frozenset(shapes_asked(session, (), [case], "reference")) == every
    assert {shape.kv_layout for shape in every} == {"NHD", "HND"}
    assert not frozenset(shapes_asked(session, (), [case], "tender"))
    assert frozenset(shapes_asked(session, (), [within(case, Tender.promises)], "tender"))
