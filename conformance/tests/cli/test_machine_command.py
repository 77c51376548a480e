"""``attnconf machine`` says what was played and judged, and tells the story of a broken clause."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from attnconf.cases.case import Case
from attnconf.cli import main as cli
from attnconf.serving.managers.own import OwnManager

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_run_says_what_was_played_and_judged(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["machine", "--steps", "40", "--judge-every", "9", "--model", "gemma4-e2b"]) == 0
    said = capsys.readouterr().out
    found = re.search(r"own: ([\d,]+) events of .*, (\d+) cases? of ([\d,]+) batches judged on reference", said)
    assert found is not None, said
    assert int(found[1].replace(",", "")) >= 40
    assert int(found[2]) > 0


def test_recorded_batches_are_replayed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "batches"
    assert cli.main(["machine", "--steps", "20", "--judge-every", "40", "--record", str(folder)]) == 0
    found = list(folder.glob("*.json"))
    assert found
    assert f"{len(found)} case" in capsys.readouterr().out
    assert all(Case.read(path).paging.placement == "recorded" for path in found)
    assert cli.main(["replay", str(found[0]), "--backend", "reference"]) == 0
    assert "0 failed" in capsys.readouterr().out
    assert cli.main(["machine", "--record", str(found[0])]) == 2
    assert "a folder that can be made" in capsys.readouterr().err


def test_a_broken_clause_is_a_failure_with_its_story(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OwnManager, "free", lambda self, request: self.held.pop(request) and None)
    assert cli.main(["machine", "--judge-every", "0"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("own breaks clause 22 (conservation of pages): ")
    assert lines[1] == "after 2 events:"
    assert lines[2].startswith("  1. request ")


def test_a_story_that_was_saved_is_told_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    story = str(tmp_path / "story.json")
    with monkeypatch.context() as broken:
        broken.setattr(OwnManager, "free", lambda self, request: self.held.pop(request) and None)
        assert cli.main(["machine", "--judge-every", "0", "--save-story", story]) == 1
        first = capsys.readouterr().out
        assert f"attnconf machine --story {story} --backend reference" in first
        assert cli.main(["machine", "--story", story]) == 1
        assert capsys.readouterr().out == "".join(first.splitlines(keepends=True)[:-1])
    assert cli.main(["machine", "--story", story]) == 0
    assert re.search(r"own: \d+ events, \d+ cases? judged on reference, .* no clause broken", capsys.readouterr().out)
    assert cli.main(["machine", "--story", story, "--memory", "own"]) == 2
    assert "allowed: the story's own" in capsys.readouterr().err


def test_an_unknown_memory_and_a_model_that_it_cannot_hold_are_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["machine", "--memory", "paper"]) == 2
    assert re.match(r"attnconf: --memory.*paper.*own", capsys.readouterr().err)
