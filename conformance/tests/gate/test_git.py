"""The commit of a tree, and git's own reason where it names none."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from attnconf.cli import main as cli
from attnconf.errors import InvalidInputError
from attnconf.gate.git import GitError, git_sha
from attnconf.gate.plans.repository import repository_of
from conformance.tests.support.gate_repository import start

DUBIOUS = "fatal: detected dubious ownership in repository at '/src'"


def test_the_git_sha_says_when_the_tree_is_dirty(tmp_path: Path) -> None:
    assert git_sha(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@t"]
    (tmp_path / "a").write_text("1")
    for arguments in (["init", "-q"], ["add", "a"], ["commit", "-qm", "x"], ["tag", "v1"]):
        subprocess.run([*git, *arguments], check=True)  # noqa: S603 - fixed arguments
    clean = git_sha(tmp_path)
    assert clean is not None
    assert len(clean) == 40
    (tmp_path / "a").write_text("2")
    assert git_sha(tmp_path) == f"{clean}-dirty"


def pretend(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a git of our own first on the path."""
    folder.mkdir()
    (folder / "git").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "git").chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_a_repository_that_git_refuses_is_not_no_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tree" / ".git").mkdir(parents=True)
    pretend(tmp_path / "bin", f'echo "{DUBIOUS}" >&2; exit 128', monkeypatch)
    with pytest.raises(GitError, match=r"^git says: fatal: detected dubious ownership"):
        git_sha(tmp_path / "tree")
    with pytest.raises(InvalidInputError, match="dubious ownership"):
        repository_of(tmp_path / "tree")


def test_a_repository_without_git_is_said_and_no_repository_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_sha(tmp_path) is None
    (tmp_path / ".git").mkdir()
    with pytest.raises(GitError, match=r"^git is not installed$"):
        git_sha(tmp_path)


def test_git_that_does_not_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tree" / ".git").mkdir(parents=True)
    pretend(tmp_path / "bin", "exec sleep 60", monkeypatch)
    monkeypatch.setattr("attnconf.gate.git._SECONDS", 0.2)
    with pytest.raises(GitError, match=r"^git describe did not end within 0.2 s$"):
        git_sha(tmp_path / "tree")


def test_a_repository_without_a_commit_says_so(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)  # noqa: S603, S607 - fixed arguments
    with pytest.raises(GitError, match=r"^git says: fatal: "):
        git_sha(tmp_path)


@pytest.mark.parametrize("refused", [True, False])
def test_no_plan_is_green_without_a_commit(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    refused: bool,  # noqa: FBT001
) -> None:
    (tmp_path / "tree").mkdir()
    start(tmp_path / "tree")
    monkeypatch.chdir(tmp_path / "tree")
    call = ["plan", "--policy", "policy.toml", "--fleet", "fleet.toml"]
    assert cli.main(call) == 0
    capsys.readouterr()
    if refused:
        pretend(tmp_path / "bin", f'echo "{DUBIOUS}" >&2; exit 128', monkeypatch)
        assert cli.main(call) == 2
        assert capsys.readouterr() == ("", f"attnconf: git says: {DUBIOUS}\n")
    else:
        (tmp_path / "tree" / ".git").rename(tmp_path / "gone")
        assert cli.main(call) == 10
        assert "NOT MET: the plan is of no commit" in capsys.readouterr().err
