"""Git: what it says of the tree around a folder, or in its own words why it says nothing."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from attnconf.errors import AttnconfError, one_line

_SECONDS = 60.0
_LONGEST_REASON = 300
_NO_REPOSITORY = "not a git repository"
_ENGLISH = {"LC_ALL": "C", "LANGUAGE": "C"}


class GitError(AttnconfError):
    """Git is there and refuses, or a repository is there and git is not: the reason in git's own words."""


def ask_git(folder: Path, *arguments: str) -> str:
    """Return what ``git -C folder arguments`` writes. Raises ``GitError`` with what it complains of."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(  # noqa: S603 - no shell
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_SECONDS,
            env=os.environ | _ENGLISH,
        )
    except FileNotFoundError:
        message = "git is not installed"
        raise GitError(message) from None
    except subprocess.TimeoutExpired:
        message = f"git {arguments[0]} did not end within {_SECONDS:g} s"
        raise GitError(message) from None
    except (OSError, ValueError) as error:
        message = f"git cannot be run: {one_line(error)}"
        raise GitError(message) from None
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "backslashreplace").split("\n")
        said = "; ".join(line.strip() for line in lines if line.strip())[:_LONGEST_REASON]
        message = f"git says: {said}" if said else f"git {arguments[0]} ended with {done.returncode}"
        raise GitError(message)
    return done.stdout.decode("utf-8", "surrogateescape")


def git_sha(folder: Path) -> str | None:
    """Return the commit of the repository around ``folder``, with ``-dirty`` if tracked files differ.

    None where there is no repository. Raises ``GitError`` where there is one and git does not name its commit.
    """
    try:
        text = ask_git(folder, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty").strip()
    except GitError as error:
        if _NO_REPOSITORY in str(error) or not _in_repository(folder):
            return None
        raise
    if not re.fullmatch(r"[0-9a-f]{40}(-dirty)?", text):
        message = f"git says: {text[:_LONGEST_REASON]}, which is no SHA-1 of a commit"
        raise GitError(message)
    return text


def _in_repository(folder: Path) -> bool:
    whole = folder.resolve()
    return "GIT_DIR" in os.environ or any((place / ".git").exists() for place in (whole, *whole.parents))
