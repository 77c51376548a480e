"""The faults by which blame is measured still fit the code that they edit."""

from __future__ import annotations

import pytest

from attnconf.mutants.registry import MUTANTS
from attnconf.platforms import detect
from ci.benchmarks.blame.__main__ import SETS, main
from ci.benchmarks.blame.fault import Fault

WRITTEN = ("first", "second", "third", "fourth")
FAULTS = [fault for name in WRITTEN for fault in SETS[name] if isinstance(fault, Fault)]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_a_fault_fits_and_has_a_name_of_its_own(fault: Fault) -> None:
    assert fault.make_named(detect()).name == fault.id
    assert [one.id for one in (*FAULTS, *MUTANTS)].count(fault.id) == 1


def test_each_set_has_thirty_faults_at_least() -> None:
    assert all(len(SETS[name]) >= 30 for name in WRITTEN)


def test_an_unknown_set_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["blame", "--set", "newest"])
    with pytest.raises(SystemExit):
        main()
    assert "invalid choice: 'newest'" in capsys.readouterr().err
