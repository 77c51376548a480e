"""Repository: what git says of the tree around a folder, for plans of what a change touches."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.errors import InvalidInputError
from attnconf.fields import quote
from attnconf.gate.git import GitError, ask_git

if TYPE_CHECKING:
    from collections.abc import Mapping

_LINK = "120000"
"""git's mode of a symbolic link, whose content is a path."""

_SHA1_DIGITS = 40


@dataclass(frozen=True)
class Repository:
    """A git repository by its top folder."""

    top: Path

    def commit(self, revision: str) -> str:
        """Return the commit that ``revision`` names. Raises ``InvalidInputError`` for one that names none."""
        try:
            return ask_git(self.top, "rev-parse", "--verify", "--end-of-options", revision + "^{commit}").strip()
        except GitError as error:
            source = "--diff"
            allowed = f"a commit that is in {self.top}; a shallow clone has few (fetch-depth: 0 fetches all)"
            raise InvalidInputError(source, given=f"{quote(revision)} ({error})", allowed=allowed) from None

    def changed_since(self, commit: str) -> tuple[str, ...]:
        """Return the tracked files in which the working tree differs from ``commit``, by paths from the top, sorted.

        A renamed file counts under both names. Raises ``GitError``.
        """
        done = ask_git(self.top, "diff", "--name-only", "--no-renames", "--no-ext-diff", "-z", commit, "--")
        return tuple(sorted(name for name in done.split("\0") if name))

    def text_at(self, commit: str, path: Path) -> str | None:
        """Return what the file ``path`` held at ``commit``, None if it was not there, or lies outside."""
        name = self.name_of(path)
        if name is None:
            return None
        try:
            return ask_git(self.top, "show", f"{commit}:{name}")
        except GitError:
            return None

    def committed(self, contents: Mapping[str, bytes]) -> frozenset[str]:
        """Return the paths from the top, of those in ``contents``, that the checked-out commit holds as these bytes.

        The commit itself is asked: an index that was told to look away (``--assume-unchanged``) changes nothing.
        """
        listed = _asked(self.top, "ls-tree", "-r", "-z", "--full-tree", "HEAD", "--", *contents) if contents else None
        held: dict[str, str] = {}
        for entry in (listed or "").split("\0"):
            what, _, name = entry.partition("\t")
            mode, _, blob = what.partition(" blob ")
            if blob and mode != _LINK:
                held[name] = blob
        return frozenset(
            name for name, blob in held.items() if name in contents and self._is(blob, name, contents[name])
        )

    def _is(self, blob: str, name: str, content: bytes) -> bool:
        """Whether ``blob`` is ``content``, as it is or as git would store the file, with other ends of lines."""
        make = hashlib.sha1 if len(blob) == _SHA1_DIGITS else hashlib.sha256
        if make(b"blob %d\0" % len(content) + content).hexdigest() == blob:
            return True
        stored = _asked(self.top, "hash-object", "--", name)
        return stored is not None and stored.strip() == blob

    def name_of(self, path: Path) -> str | None:
        """Return ``path`` from the top, None if it lies outside."""
        whole = path.resolve()
        return whole.relative_to(self.top).as_posix() if whole.is_relative_to(self.top) else None


def repository_of(folder: Path) -> Repository:
    """Return the repository around ``folder``. Raises ``InvalidInputError`` where there is none."""
    try:
        done = ask_git(folder, "rev-parse", "--show-toplevel")
    except GitError as error:
        source = "--diff"
        given = f"{folder} is in no git repository ({error})"
        raise InvalidInputError(source, given=given, allowed="a folder that is") from None
    return Repository(Path(done.rstrip("\n")).resolve())


def _asked(folder: Path, *arguments: str) -> str | None:
    """Return what git answers, or None where it cannot."""
    try:
        return ask_git(folder, *arguments)
    except GitError:
        return None
