"""``attnconf capture`` runs a command with the switch on, and says what was kept."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from attnconf.cli import main as cli

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

SEES = """
import json, os, pathlib
asked = json.loads(os.environ["ATTNCONF_CAPTURE"])
folder = pathlib.Path(asked["folder"])
(folder / "77.capture").write_text("1 case of 4 steps\\nleft out: 2 calls: a tree of drafts\\n")
(folder / "x.json").write_text(json.dumps(asked))
raise SystemExit(3)
"""


def test_the_commands_status_and_what_its_processes_captured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cases"
    command = ["capture", "--out", str(folder), "--every", "5", "--model", "llama3-8b"]
    assert cli.main([*command, "--", sys.executable, "-c", SEES]) == 3
    assert capsys.readouterr().out.splitlines() == [
        "process 77: 1 case of 4 steps",
        "process 77: left out: 2 calls: a tree of drafts",
        f"1 case in {folder}; attnconf replay judges them on any backend",
    ]
    assert '"every": 5' in (folder / "x.json").read_text()
    assert cli.main([*command, "--", sys.executable, "-c", ""]) == 2
    assert "is not empty; allowed: a folder of its own" in capsys.readouterr().err


def test_a_command_that_is_none_and_one_without_an_engine_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["capture", "--out", str(tmp_path / "a"), "--", "no-such-program"]) == 127
    assert "no-such-program cannot be run: No such file or directory" in capsys.readouterr().err
    assert cli.main(["capture", "--out", str(tmp_path / "b"), "--", sys.executable, "-c", ""]) == 0
    assert "no process of an engine was seen" in capsys.readouterr().out
    assert cli.main(["capture", "--out", str(tmp_path / "c"), "--every", "0", "--", "true"]) == 2
    assert "--every: 0; allowed: 1 or more" in capsys.readouterr().err
