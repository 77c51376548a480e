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


def prepare(
    package: str, version: str, store: Path = STORE, *, whole: bool = False, beside: tuple[str, ...] = ()
) -> Path:
    """Fetch a release, unless it is there, and unpack the Python files of its wheel; return the folder.

    Other files are left out: they are most of a wheel, and most adapters need none of them. A ``whole`` one has all,
    and is unpacked with the packages ``beside`` it, each NAME==VERSION, or NAME of the same version. Raises
    ``InvalidInputError`` with pip's last words where the index has no such wheel.
    """
    folder = place(package, version, store)
    if wheel_digest(folder):
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    for name in beside:
        _fetch(name if "==" in name else f"{name}=={version}", folder, whole=True)
    digest = _fetch(f"{package}=={version}", folder, whole=whole)
    (folder / _DIGEST).write_text(f"{digest}\n", encoding="utf-8")
    return folder


def _fetch(release: str, folder: Path, *, whole: bool) -> str:
    """Unpack the wheel of one ``release`` into ``folder``, and return its SHA-256."""
    with tempfile.TemporaryDirectory() as work:
        options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--dest", work]
        command = [sys.executable, "-m", "pip", "download", *options, release]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - names of the table
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            raise InvalidInputError(
                release, given=f"pip says: {said}", allowed="a release with a wheel for this Python"
            )
        (wheel,) = Path(work).glob("*.whl")
        _unpack(wheel, folder, whole=whole)
        with wheel.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()


def _unpack(wheel: Path, folder: Path, *, whole: bool) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if whole or name.endswith(".py"):
                archive.extract(name, folder)  # zipfile keeps names inside the folder
