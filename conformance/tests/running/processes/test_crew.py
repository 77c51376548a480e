"""A crew: what fells one process fells no other, and what spoils one ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from attnconf.running.processes.crew import Crew, _Member
from attnconf.running.processes.engine import Found, LostError
from attnconf.running.processes.gpus import VISIBLE
from attnconf.running.processes.watched import watched
from conformance.tests.support import crewmates

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def in_order(found: Iterable[tuple[int, Found | LostError]]) -> list[Found | LostError]:
    """Return what the pieces gave, in their order."""
    return [one for _, one in sorted(found, key=lambda pair: pair[0])]


def test_a_process_that_dies_costs_one_piece_and_one_that_is_spoilt_gets_no_other() -> None:
    with Crew(1) as crew:
        found = in_order(crew.map(crewmates.work, ["a", "b", "die", "c", "d"], spoils=lambda done: done[0] == "c"))
    assert [isinstance(one, LostError) for one in found] == [False, False, True, False, False]
    lived = [one for one in found if not isinstance(one, LostError)]
    assert [(piece, turn) for piece, _, turn, _ in lived] == [("a", 1), ("b", 2), ("c", 1), ("d", 1)]
    assert len({process for _, process, _, _ in lived}) == 3


def test_each_process_has_a_gpu_in_turn_and_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "GPU-a,GPU-b")
    with Crew(3) as crew:
        assert [member._settings for member in crew._members] == [(n, ("GPU-a", "GPU-b")) for n in range(3)]
        (first, died, again) = in_order(crew.map(crewmates.work, ["a", "die", "b"]))
    assert isinstance(died, LostError)
    assert {one[3] for one in (first, again) if not isinstance(one, LostError)} <= {"GPU-a", "GPU-b"}


def test_what_the_work_raises_is_raised() -> None:
    with Crew(1) as crew, pytest.raises(ValueError, match="no"):
        list(crew.map(crewmates.fail, ["no"]))


def test_a_piece_that_hangs_or_dies_costs_itself_and_names_what_it_was_at() -> None:
    with Crew(1) as crew:
        found = in_order(crew.map(crewmates.at, ["slow", "hang", "a", "die", "b"]))
    assert [one for one in found if not isinstance(one, LostError)] == ["slow", "a", "b"]
    hung, died = (str(one) for one in found if isinstance(one, LostError))
    assert hung == "no answer within 1 s, so its process was ended: 'case hang'"
    assert died.endswith("'case die'")
    assert "no answer" not in died


def test_what_goes_wrong_waits_for_no_piece_that_is_under_way() -> None:
    started = time.monotonic()
    with Crew(2) as crew:
        # The one that is done does not wait for the one before it, and what is dropped here ends what it began.
        assert next(crew.map(crewmates.wait, [60.0, 0.0])) == (1, None)
    assert time.monotonic() - started < 50


def test_a_script_without_a_guard_is_not_run_again_in_a_served_process(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "print('once')\nfrom attnconf.running.processes.crew import Crew\n"
        "with Crew(2, served=True) as crew:\n    print(sorted(crew.map(abs, [-3, -4])))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)  # noqa: S603 - the script above
    assert done.stdout == "once\n[(0, 3), (1, 4)]\n", done.stderr


def test_processes_end_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    all_of_them = threading.Barrier(3, timeout=20)
    monkeypatch.setattr(_Member, "end", lambda _: all_of_them.wait())
    Crew(3).end()


def test_nothing_is_watched_in_a_process_that_is_no_crews() -> None:
    with watched("a case", 0.01):
        time.sleep(0.05)


def test_the_crew_of_a_process_that_is_interrupted_ends_with_it() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "from conformance.tests.support.crewmates import be_interrupted; be_interrupted()"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        member = int(process.stdout.readline())
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "attnconf: interrupted\n"
    with pytest.raises(ProcessLookupError):
        os.kill(member, 0)
