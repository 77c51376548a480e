"""A budget is kept, a step ends where it must, and nothing that goes wrong reaches the engine."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from attnconf.capture.call import LayerCall, UnsayableError
from attnconf.capture.gathering import Budget, Gathering
from attnconf.cases.case import Case
from conformance.tests.capture.test_capture_building import CALL, MEMORY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Batch:
    """An engine's batch."""


def longer(pages: int) -> LayerCall:
    """Return a decode over so many pages."""
    tables = (tuple(range(1, pages + 1)),)
    return replace(CALL, q_lens=(1,), kv_lens=(4 * pages,), memory=replace(MEMORY, tables=tables))


def files(folder: Path) -> list[Case]:
    return [Case.read(path) for path in folder.glob("*.json")]


def test_each_shape_is_kept_once(tmp_path: Path) -> None:
    gathering = Gathering(tmp_path)
    for step, pages in enumerate((1, 2, 1, 2, 3)):
        gathering.see(step, "0", lambda pages=pages: longer(pages))  # type: ignore[misc]
    gathering.close()
    assert sorted(case.max_kv_len for case in files(tmp_path)) == [4, 8, 12]
    assert gathering.lines == ["3 cases of 5 steps"]
    (log,) = tmp_path.glob("*.capture")
    assert log.read_text() == "3 cases of 5 steps\n"


def test_a_step_ends_with_another_number_or_with_a_layer_that_is_called_again(tmp_path: Path) -> None:
    gathering = Gathering(tmp_path)
    for step, name in ((1, "0"), (1, "1"), (1, "0"), (2, "0")):
        gathering.see(step, name, lambda: longer(1))
    gathering.close()
    assert gathering.steps == 3


def test_a_batch_is_kept_while_its_address_names_the_step(tmp_path: Path) -> None:
    gathering = Gathering(tmp_path)
    first = Batch()
    address, alive = id(first), weakref.ref(first)
    gathering.see(address, "0", lambda: longer(1), first)
    del first
    assert alive() is not None
    second = Batch()
    gathering.see(id(second), "1", lambda: longer(2), second)
    assert gathering.steps == 2, "another batch, and no later layer of the first"
    assert alive() is None
    gathering.close()


def test_beyond_the_budget_nothing_is_read(tmp_path: Path) -> None:
    gathering = Gathering(tmp_path, Budget(every=2, most=2))
    read: list[int] = []

    def reading(step: int) -> Callable[[], LayerCall]:
        def read_it() -> LayerCall:
            read.append(step)
            return longer(step + 1)

        return read_it

    for step in range(10):
        gathering.see(step, "0", reading(step))
    gathering.close()
    assert read[:2] == [0, 2]
    assert len(read) <= 3
    assert len(files(tmp_path)) == 2


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UnsayableError("a tree of drafts"), "left out: 2 calls: a tree of drafts"),
        (KeyError("seq_lens"), "left out: 2 calls: attnconf could not read it: KeyError: 'seq_lens'"),
    ],
)
def test_what_goes_wrong_is_counted_and_the_engine_goes_on(error: Exception, said: str, tmp_path: Path) -> None:
    def fail() -> LayerCall:
        raise error

    gathering = Gathering(tmp_path)
    for step in range(2):
        gathering.see(step, "0", fail)
    gathering.close()
    assert gathering.lines == ["0 cases of 2 steps", said]
