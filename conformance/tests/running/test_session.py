"""Sessions: a backend that does not start is an outcome, and each is asked what it promises."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch

from attnconf.backends.demands import as_promised, unmet_promise
from attnconf.backends.protocol import REQUIRED
from attnconf.backends.reference import ReferenceBackend
from attnconf.cases.drawing.profiles import profile_named
from attnconf.errors import BackendUnavailableError, UnknownBackendError
from attnconf.judging.checks.catalogue import all_checks
from attnconf.judging.result import Outcome
from attnconf.platforms import Platform
from attnconf.running.agenda import AgendaItem
from attnconf.running.explore import explore
from attnconf.running.planned_shapes import PLANNED_CASES, asked_shapes, shapes_asked
from attnconf.running.session import Session


def a_session(seed: int = 0) -> Session:
    """Return a session of the gate profile on a machine without a GPU."""
    return Session(platform=Platform(), profile=profile_named("gate"), seed=seed)


def test_planning_for_fewer_cases_leaves_the_campaign_whole() -> None:
    """Sessions that differ in profile or seed must not share what was drawn for one of them."""
    profile = profile_named("gate")
    many = replace(profile, examples={**profile.examples, "decode": PLANNED_CASES + 20})
    session = replace(a_session(), profile=many)
    frozenset(shapes_asked(session, [("decode", "llama3-8b")], (), "reference"))
    assert len(session.drawn.cases("decode", "llama3-8b")) > PLANNED_CASES
    assert session.drawn.refusals.cases != replace(session, seed=1).drawn.refusals.cases


def test_what_is_planned_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    session = a_session()
    shapes = frozenset(shapes_asked(session, [("decode", "gemma4-e2b")], (), "reference"))
    monkeypatch.setattr("attnconf.cases.drawing.draws.draw_case", lambda *_: pytest.fail("drawn again"))
    assert frozenset(shapes_asked(session, [("decode", "gemma4-e2b")], (), "reference")) == shapes
    assert session.drawn.cases("decode", "gemma4-e2b")


def test_who_only_hands_cases_on_imports_no_torch() -> None:
    code = """
import sys
import attnconf.report.failure
import attnconf.running.build_plan
import attnconf.running.judge
from attnconf.cases.drawing.profiles import profile_named
from attnconf.judging.memory import Memory
from attnconf.platforms import Platform
from attnconf.running.declined import Declined
from attnconf.running.session import Session

session = Session(platform=Platform(), profile=profile_named("smoke"), memory=Memory(10**9))
cases = session.drawn.cases("decode", "gemma4-e2b")
assert not any(map(session.why_not_here, cases))
assert session.isolates("reference")
sys.exit("torch" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 - fixed


def test_a_backend_is_made_once() -> None:
    session, made = a_session(), []
    session.registry.register("toy", lambda platform: made.append(platform) or Tender("toy"))  # type: ignore[func-returns-value]
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
    [(None, None, True, False), (None, (9, 0), True, False), (True, None, True, True), (False, (9, 0), False, False)],
)
def test_installed_backends_run_apart(
    isolate: bool | None,  # noqa: FBT001 - a value of the field
    sm: tuple[int, int] | None,
    *,
    installed: bool,
    registered: bool,
) -> None:
    session = Session(platform=Platform(sm=sm), profile=profile_named("smoke"), isolate=isolate)
    session.registry.register("mine", lambda _: Tender("mine"))
    assert session.isolates("reference") is installed
    assert session.isolates("mine") is registered


def test_an_unknown_backend_is_not_an_unavailable_one() -> None:
    with pytest.raises(UnknownBackendError, match=r"allowed: .*reference, .*triton"):
        a_session().why_not("nobody")


def test_cases_run_on_one_thread() -> None:
    torch.set_num_threads(2)
    session = a_session()
    session.registry.register("tender", lambda _: Tender("tender"))
    session.declaration("tender")
    assert torch.get_num_threads() == 1


class Tender(ReferenceBackend):
    """Right, and promises as little as it may."""

    def __init__(self, name: str) -> None:
        self.name = name

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
    session.registry.register("tender", lambda _platform: Tender("tender"))
    drawn = session.drawn.cases("decode", "gemma4-e2b")
    found = explore(session.drawn.draws("decode", "gemma4-e2b"), partial(session.ask, backend="tender"))
    assert len(found.results) == len(drawn)
    assert {layer.outcome for result in found.results for layer in result.layers} == {Outcome.PASSED}
    beyond = next(case for case in drawn if unmet_promise(case, 0, Tender.promises))
    assert session.run(beyond, "tender").layers[0].outcome is Outcome.UNSUPPORTED
    asked = AgendaItem(beyond, "decode", "gemma4-e2b").run(session, "tender")
    assert {layer.outcome for layer in asked.layers} == {Outcome.PASSED}
    assert asked.case != beyond


def test_a_recorded_case_is_planned_with_every_check_and_not_at_all_of_who_does_not_bear_it() -> None:
    session = a_session()
    session.registry.register("tender", lambda _platform: Tender("tender"))
    case = next(case for case in session.drawn.cases("decode", "gemma4-e2b") if unmet_promise(case, 0, Tender.promises))
    every = frozenset(asked_shapes(case, all_checks))
    assert frozenset(shapes_asked(session, (), [case], "reference")) == every
    assert {shape.kv_layout for shape in every} == {"NHD", "HND"}
    assert not frozenset(shapes_asked(session, (), [case], "tender"))
    assert frozenset(shapes_asked(session, (), [as_promised(case, Tender.promises)], "tender"))
