"""Sessions: the cases of a seed are the same everywhere, and a backend that does not start is an outcome."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
import torch

from attnconf.backends.reference import ReferenceBackend
from attnconf.errors import BackendUnavailableError, UnknownBackendError
from attnconf.platforms import Platform
from attnconf.profiles import profile_named
from attnconf.result import CaseResult, LayerResult, Outcome
from attnconf.session import Session

if TYPE_CHECKING:
    from pathlib import Path

    from attnconf.case import Case
    from attnconf.spaces import Family


def a_session(seed: int = 0) -> Session:
    """Return a session of the gate profile on a machine without a GPU."""
    return Session(platform=Platform(), profile=profile_named("gate"), seed=seed)


def drawn(session: Session, family: Family = "free", model: str = "free") -> list[str]:
    """Return the ids of the cases that the session draws, running none of them."""
    ids: list[str] = []

    def run(case: Case) -> CaseResult:
        ids.append(case.id)
        return CaseResult(
            case=case, backend="none", evidence="kernel", layers=(LayerResult(layer=0, outcome=Outcome.NOT_RUN),)
        )

    session.explore(family, model, "none", run=run)
    return ids


def test_a_seed_draws_the_same_cases_again_and_another_seed_others() -> None:
    once = drawn(a_session())
    assert len(once) == len(set(once)) > 0.9 * profile_named("gate").examples["free"]
    assert drawn(a_session()) == once
    assert len(set(drawn(a_session(seed=1))) & set(once)) < 0.1 * len(once)  # the simplest case is always asked


def test_models_and_families_draw_apart() -> None:
    decode = drawn(a_session(), "decode", "gemma4-e2b")
    assert set(decode).isdisjoint(drawn(a_session(), "decode", "gemma4-e4b"))
    assert set(decode).isdisjoint(drawn(a_session(), "extend", "gemma4-e2b"))


def test_the_modules_of_the_process_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    once = drawn(a_session())
    source = tmp_path / "constants.py"
    source.write_text("VALUES = (" + ", ".join(str(100_000 + 7919 * i) for i in range(200)) + ")\n")
    module = ModuleType("constants_of_the_user")
    module.__file__ = str(source)
    monkeypatch.setitem(sys.modules, "constants_of_the_user", module)
    assert drawn(a_session()) == once


def test_the_draws_leave_hypothesis_as_it_was() -> None:
    from hypothesis.internal.conjecture.providers import HypothesisProvider

    before = HypothesisProvider._maybe_draw_constant
    drawn(a_session())
    assert HypothesisProvider._maybe_draw_constant is before


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
        (ImportError("no libbar"), "backend toy does not start: ImportError: no libbar"),
        (SystemExit(4), "backend toy ends the process: exit 4"),
    ],
)
def test_a_backend_that_does_not_start_says_why_each_time(error: BaseException, reason: str) -> None:
    session = a_session()

    def make(platform: Platform) -> ReferenceBackend:
        del platform
        raise error

    session.registry.register("toy", make)
    assert session.why_not("toy") == reason
    with pytest.raises(BackendUnavailableError, match=reason):
        session.backend("toy")


def test_an_unknown_backend_is_not_an_unavailable_one() -> None:
    with pytest.raises(UnknownBackendError, match=r"allowed: .*reference, .*triton"):
        a_session().why_not("nobody")


def test_cases_run_on_one_thread() -> None:
    torch.set_num_threads(2)
    a_session()
    assert torch.get_num_threads() == 1
