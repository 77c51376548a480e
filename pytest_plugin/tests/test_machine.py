"""The machine of serving in a run: in terminal, receipt and cells, and red where a clause is broken."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import attnconf.serving.managers.own
from attnconf.cases.drawing.profiles import PROFILES, Playing

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.gate.receipt import Receipt

    Inner = Callable[..., pytest.RunResult]

pytest_plugins = ["pytester"]

SUITE = ("--pyargs", "attnconf.suite", "--attnconf-profile=gate", "--attnconf-family=machine", "--attnconf-model=free")


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROFILES, "gate", replace(PROFILES["gate"], machine=Playing(120, 4)))


def test_what_was_played_is_in_terminal_and_receipt(inner: Inner, receipt: Receipt) -> None:
    result = inner(*SUITE, "--attnconf-backend=good", "--attnconf-receipt=r.json")
    assert result.ret == 0
    (played,) = receipt.played
    assert (played.backend, played.model, played.memory, played.asked) == ("good", "free", "own", 4)
    assert played.broken is None
    assert sum(cell.passed for cell in receipt.cells) == 16
    (line,) = (line for line in result.outlines if line.startswith("machine, free"))
    assert line.endswith("4 cases of " + f"{played.batches:,} batches asked of good; clauses 21 to 26 hold")


def test_a_backend_that_is_wrong_is_told_in_events(inner: Inner, receipt: Receipt) -> None:
    result = inner(*SUITE, "--attnconf-backend=wrong", "--attnconf-receipt=r.json")
    assert result.ret == 1
    assert any("the batch is the last of" in line for line in result.outlines)
    (failed,) = receipt.failures
    assert "the batch is the last of" in failed.text


def test_a_broken_clause_is_red_and_in_the_receipt(
    inner: Inner, receipt: Receipt, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = attnconf.serving.managers.own.OwnManager
    monkeypatch.setattr(manager, "free", lambda self, request: self.held.pop(request) and None)
    result = inner(*SUITE, "--attnconf-backend=good", "--attnconf-receipt=r.json")
    assert result.ret == 1
    (played,) = receipt.played
    assert played.broken is not None
    assert played.broken.clause == 22
    assert any("own breaks clause 22 (conservation of pages)" in line for line in result.outlines)


def test_a_profile_without_the_machine_has_no_test_of_it(inner: Inner) -> None:
    result = inner(*SUITE, "--attnconf-profile=smoke", "--collect-only", "-q", "--attnconf-backend=good")
    assert not any("test_machine[" in line for line in result.outlines)
