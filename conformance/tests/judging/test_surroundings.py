"""Shared state in one process: what a backend changes is undone for the judge and for the next backend."""

from __future__ import annotations

import gc
import locale
import os
import random
import signal
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import torch

from attnconf.cases.case import Case, Layer
from attnconf.cases.drawing.profiles import profile_named
from attnconf.cases.request import Request
from attnconf.judging.process_state import OF_PROCESS, OF_TORCH
from attnconf.judging.result import Outcome
from attnconf.judging.surroundings import Surroundings
from attnconf.platforms import Platform
from attnconf.running.session import Session
from conformance.tests.support.wrecking import Changing

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.judging.result import CaseResult

LAYER = Layer(kind="full", num_qo_heads=2, num_kv_heads=1, head_dim=16, sm_scale=0.25)
CASE = Case(mode="decode", layers=(LAYER,), requests=(Request(prefix_len=20),))

CHANGES: dict[str, Callable[[], Any]] = {
    "dtype": lambda: torch.set_default_dtype(torch.float64),
    "device": lambda: torch.set_default_device("meta"),
    "grad mode": lambda: torch.set_grad_enabled(not torch.is_grad_enabled()),
    "threads": lambda: torch.set_num_threads(2),
    "determinism": lambda: torch.use_deterministic_algorithms(True, warn_only=True),  # noqa: FBT003 - torch's
    "precision": lambda: torch.set_float32_matmul_precision("medium"),
    "autocast": lambda: torch.set_autocast_enabled("cpu", True),  # noqa: FBT003 - torch's
    "kernels": lambda: torch.backends.cuda.enable_flash_sdp(False),  # noqa: FBT003 - torch's
    "random": lambda: (torch.manual_seed(7), random.seed(7)),
    "folder": lambda: os.chdir("/"),
    "environment": lambda: (os.environ.pop("HOME", None), os.environ.update(OMP_NUM_THREADS="64")),
    "warnings": lambda: warnings.simplefilter("ignore"),
    "recursion": lambda: sys.setrecursionlimit(5000),
    "signals": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "timer": lambda: signal.setitimer(signal.ITIMER_REAL, 3600),
    "streams": lambda: setattr(sys, "stdout", None),
    "descriptors": lambda: os.dup2(os.open(os.devnull, os.O_RDWR), 1),
    "closed descriptors": lambda: os.closerange(0, 3),
    "path": lambda: sys.path.insert(0, "/"),
    "another path": lambda: setattr(sys, "path", []),
    "locale": lambda: locale.setlocale(locale.LC_ALL, "C.UTF-8"),
    "mask": lambda: os.umask(0o777),
    "collection": gc.disable,
    "hooks": lambda: setattr(sys, "excepthook", print),
}

COARSE = ("autocast", "everything")
"""Changes that make the backend's own answer less exact than it declares."""


def state() -> list[Any]:
    return [part.read() for part in (*OF_TORCH, *OF_PROCESS)]


@pytest.fixture
def run() -> Callable[[Callable[[], Any]], list[CaseResult]]:
    """Return what a backend that changes something, the reference, and the first one again come to."""

    def ask(change: Callable[[], Any]) -> list[CaseResult]:
        session = Session(Platform(), profile_named("smoke"), isolate=False)
        session.registry.register("changing", lambda _platform: Changing(change))
        return [session.run(CASE, name, "all") for name in ("changing", "reference", "changing")]

    return ask


def test_a_change_is_in_nobodys_way(run: Callable[[Callable[[], Any]], list[CaseResult]]) -> None:
    torch.set_num_threads(1)
    before = state()

    def everything() -> None:
        for change in CHANGES.values():
            change()

    for name, change in {**CHANGES, "everything": everything}.items():
        results = run(change)
        outcomes = [layer.outcome for result in results for layer in result.layers]
        now = state()
        assert [was == then for was, then in zip(before, now, strict=True)] == [True] * len(before), name
        own = [Outcome.FAILED if name in COARSE else Outcome.PASSED]
        assert outcomes == [*own, Outcome.PASSED, *own], (name, results)


def test_a_backend_has_its_own_again() -> None:
    own = Surroundings()
    for _ in range(2):
        with own.of_process():
            seen = os.environ.get("ATTNCONF_TEST_OWN")
            os.environ["ATTNCONF_TEST_OWN"] = "1"
    assert seen == "1"
    assert "ATTNCONF_TEST_OWN" not in os.environ


def test_it_works_in_a_thread_which_may_set_no_handler() -> None:
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            with Surroundings().of_process():
                torch.set_default_dtype(torch.float64)
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert not failed
    assert torch.get_default_dtype() == torch.float32
