"""Releases on this disk: fetched from the package index by name, and unpacked without what they depend on."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from attnconf.errors import InvalidInputError

STORE = Path("build/backtest/releases")
_DIGEST = "WHEEL.sha256"


def place(package: str, version: str, store: Path = STORE) -> Path:
    """Return the folder of a release, whether it is there or not."""
    return store / f"{package}-{version}"


def wheel_digest(folder: Path) -> str:
    """Return the SHA-256 of the wheel that was unpacked into ``folder``, or an empty text."""
    file = folder / _DIGEST
    return file.read_text(encoding="utf-8").strip() if file.is_file() else ""


def prepare(package: str, version: str, store: Path = STORE, *, whole: bool = False) -> Path:
    """Fetch a release, unless it is there, and unpack the Python files of its wheel; return the folder.

    Other files are left out: they are most of a wheel, and a CPU needs none of them. A ``whole`` one has all. Raises
    ``InvalidInputError`` with pip's last words where the index has no such wheel.
    """
    folder = place(package, version, store)
    if wheel_digest(folder):
        return folder
    with tempfile.TemporaryDirectory() as work:
        options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--dest", work]
        command = [sys.executable, "-m", "pip", "download", *options, f"{package}=={version}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - names of the table
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            raise InvalidInputError(
                f"{package}=={version}", given=f"pip says: {said}", allowed="a release with a wheel for this Python"
            )
        (wheel,) = Path(work).glob("*.whl")
        shutil.rmtree(folder, ignore_errors=True)
        _unpack(wheel, folder, whole=whole)
        with wheel.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        (folder / _DIGEST).write_text(f"{digest}\n", encoding="utf-8")
    return folder


def _unpack(wheel: Path, folder: Path, *, whole: bool) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if whole or name.endswith(".py"):
                archive.extract(name, folder)  # zipfile keeps names inside the folder
