"""What a worker knows of backends reaches the controller, and the server of their processes starts with the worker."""

from __future__ import annotations

import pickle
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from attnconf.backends.protocol import Promises
from attnconf.cases.drawing.profiles import profile_named
from attnconf.platforms import Platform
from attnconf.running.processes.declaration import Declaration
from attnconf.running.session import Session
from pytest_attnconf.state import KEY
from pytest_attnconf.workers.knowledge import KNOWN, pytest_sessionfinish, pytest_testnodedown, start_early

if TYPE_CHECKING:
    from pytest_attnconf.state import State

DECLARED = Declaration("reference", "kernel", Promises(lse="natural"), is_builder=False, files=("reference.py",))


def process(**known: Any) -> Any:  # noqa: ANN401 - stands for a process of xdist
    """Return a stand-in for a configuration, with a session that knows of backends."""
    session = Session(Platform(), profile_named("smoke"), isolate=True)
    session.adopt(known)
    state = SimpleNamespace(session=session)
    return SimpleNamespace(stash={KEY: state})


def test_the_controller_learns_what_its_workers_know() -> None:
    controller, worker = process(), process(reference=DECLARED, torch_sdpa="no torch")
    worker.workeroutput = {}
    pytest_sessionfinish(cast("pytest.Session", SimpleNamespace(config=worker)))
    pytest_testnodedown(SimpleNamespace(config=controller, workeroutput=worker.workeroutput))
    assert controller.stash[KEY].session.known == {"reference": DECLARED, "torch_sdpa": "no torch"}


def test_what_is_no_knowledge_and_a_worker_that_died_teach_nothing() -> None:
    controller = process()
    pytest_testnodedown(SimpleNamespace(config=controller))
    pytest_testnodedown(SimpleNamespace(config=controller, workeroutput={KNOWN: b"torn"}))
    assert controller.stash[KEY].session.known == {}
    pytest_sessionfinish(cast("pytest.Session", SimpleNamespace(config=controller)))  # a controller sends nothing


def test_what_a_worker_knows_is_small() -> None:
    assert len(pickle.dumps({"reference": DECLARED})) < 2000


@pytest.mark.parametrize(
    ("is_worker", "has_driver", "is_asked_for", "isolate", "starts"),
    [
        (True, False, True, "auto", 1),
        (True, True, True, "off", 0),
        (False, False, True, "auto", 0),
        (False, True, True, "auto", 1),
        (True, True, False, "auto", 0),
    ],
)
def test_the_server_starts_early_in_a_worker_and_beside_a_gpu_where_backends_have_processes(  # noqa: PLR0913 - a table
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_worker: bool,
    has_driver: bool,
    is_asked_for: bool,
    isolate: str,
    starts: int,
) -> None:
    started: list[None] = []
    monkeypatch.setattr("attnconf.platforms.has_driver", lambda: has_driver)
    monkeypatch.setattr("attnconf.running.processes.server.forkserver.ensure_running", lambda: started.append(None))
    state = SimpleNamespace(is_worker=is_worker, is_asked_for=is_asked_for, option=lambda _: isolate)
    start_early(cast("State", state))
    assert len(started) == starts
