"""A crew: what fells one process fells no other, and what spoils one ends it."""

from __future__ import annotations

import pytest

from attnconf.running.processes.crew import Crew
from attnconf.running.processes.engine import LostError
from attnconf.running.processes.gpus import VISIBLE
from conformance.tests.support import crewmates


def test_a_process_that_dies_costs_one_piece_and_one_that_is_spoilt_gets_no_other() -> None:
    with Crew(1) as crew:
        found = list(crew.map(crewmates.work, ["a", "b", "die", "c", "d"], spoils=lambda done: done[0] == "c"))
    assert [isinstance(one, LostError) for one in found] == [False, False, True, False, False]
    lived = [one for one in found if not isinstance(one, LostError)]
    assert [(piece, turn) for piece, _, turn, _ in lived] == [("a", 1), ("b", 2), ("c", 1), ("d", 1)]
    assert len({process for _, process, _, _ in lived}) == 3


def test_each_process_has_a_gpu_in_turn_and_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "GPU-a,GPU-b")
    with Crew(3) as crew:
        assert [member._settings for member in crew._members] == [(n, ("GPU-a", "GPU-b")) for n in range(3)]
        (first, died, again) = crew.map(crewmates.work, ["a", "die", "b"])
    assert isinstance(died, LostError)
    assert {one[3] for one in (first, again) if not isinstance(one, LostError)} <= {"GPU-a", "GPU-b"}


def test_what_the_work_raises_is_raised() -> None:
    with Crew(1) as crew, pytest.raises(ValueError, match="no"):
        list(crew.map(crewmates.fail, ["no"]))
