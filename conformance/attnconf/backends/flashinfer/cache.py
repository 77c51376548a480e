"""Kernel cache: a folder of compiled kernel modules to copy to other machines, since one takes up to half an hour.

The folder contains ``NAME.so`` or ``NAME.so.xz`` files and a ``manifest.json`` with their FlashInfer version, compute
capability and CUDA version, and the SHA-256 of each library. ``ATTNCONF_KERNEL_CACHE`` names it. FlashInfer looks for
ready modules at ``FLASHINFER_AOT_DIR/NAME/NAME.so`` and does not build those; ``place`` makes such a folder beside
FlashInfer's own cache, without touching the installed package.
"""

from __future__ import annotations

import contextlib
import hashlib
import lzma
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from attnconf.backends.flashinfer.package import PACKAGE
from attnconf.errors import BackendUnavailableError, InvalidInputError
from attnconf.files import write_bytes, write_text
from attnconf.values import Value, canonical_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attnconf.platforms import Platform

VARIABLE = "ATTNCONF_KERNEL_CACHE"
MANIFEST = "manifest.json"
_NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)


class Manifest(Value):
    """The versions and compute capability of a folder of modules, and each library's SHA-256 by name."""

    flashinfer: str
    sm: str
    cuda: str
    modules: dict[str, str] = Field(default_factory=dict)

    def mismatch(self, platform: Platform) -> str | None:
        """Return why these modules do not fit ``platform``, or None. Only the major version of CUDA counts."""
        version = platform.packages.get(PACKAGE, "missing")
        if self.flashinfer != version:
            return f"it was made for {PACKAGE} {self.flashinfer}, and this is {version}"
        if self.sm != platform.sm_text:
            return f"it was made for SM {self.sm}, and this is SM {platform.sm_text}"
        if platform.cuda is not None and self.cuda.partition(".")[0] != platform.cuda.partition(".")[0]:
            return f"it was made with CUDA {self.cuda}, and this is CUDA {platform.cuda}"
        return None


def ready_made(platform: Platform) -> tuple[Path, Manifest] | None:
    """Return the folder that ``ATTNCONF_KERNEL_CACHE`` names, with its manifest, or None without the variable.

    Raises ``BackendUnavailableError`` for a folder that fits another machine, or is not a kernel cache.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        return None
    try:
        manifest = Manifest.read(Path(named) / MANIFEST)
    except InvalidInputError as error:
        message = f"{VARIABLE} does not name a kernel cache: {error}; remedy: attnconf build --export DIR"
        raise BackendUnavailableError(message) from None
    unknown = next((name for name in manifest.modules if not _NAME.fullmatch(name)), None)
    reason = manifest.mismatch(platform) if unknown is None else f"{unknown!r} is no kernel module"
    if reason is not None:
        message = f"{VARIABLE}={named} cannot be used: {reason}; remedy: unset it, or attnconf build --export DIR"
        raise BackendUnavailableError(message)
    return Path(named), manifest


def place(folder: Path, manifest: Manifest, root: Path, original: Path) -> Path:
    """Return a folder under ``root`` in which FlashInfer finds the modules of ``folder`` and of ``original``.

    It is made once per manifest; several processes may do so at once. Raises ``BackendUnavailableError`` for a library
    that is missing or has another SHA-256 than in the manifest.
    """
    placed = root / hashlib.sha256(canonical_json(manifest.to_data()).encode()).hexdigest()[:16]
    for name, digest in manifest.modules.items():
        target = placed / name / f"{name}.so"
        if target.exists():
            continue
        library = _library(folder, name)
        if hashlib.sha256(library).hexdigest() != digest:
            message = f"{VARIABLE}={folder}: {name} is not the library that {MANIFEST} means (another SHA-256)"
            raise BackendUnavailableError(message)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(target, library)
    placed.mkdir(parents=True, exist_ok=True)
    for entry in original.iterdir() if original.is_dir() else ():
        if not (placed / entry.name).exists():
            with contextlib.suppress(FileExistsError):
                (placed / entry.name).symlink_to(entry)
    return placed


def _library(folder: Path, name: str) -> bytes:
    plain, packed = folder / f"{name}.so", folder / f"{name}.so.xz"
    try:
        return plain.read_bytes() if plain.exists() else lzma.decompress(packed.read_bytes())
    except (OSError, lzma.LZMAError) as error:
        raise BackendUnavailableError(f"{VARIABLE}={folder}: {name} cannot be read: {error}") from None


def export(libraries: Mapping[str, Path], folder: Path, made_for: Manifest) -> tuple[Path, ...]:
    """Copy libraries into ``folder`` and write its manifest. Modules of the same kind in it stay.

    Raises ``InvalidInputError`` for a folder with modules for another machine, or one that cannot be written.
    """
    known: dict[str, str] = {}
    if (folder / MANIFEST).exists():
        before = Manifest.read(folder / MANIFEST)
        if before.model_copy(update={"modules": {}}) != made_for.model_copy(update={"modules": {}}):
            given = f"modules for {PACKAGE} {before.flashinfer}, SM {before.sm}, CUDA {before.cuda}"
            raise InvalidInputError(str(folder), field="it", given=f"a folder of {given}", allowed="another folder")
        known = before.modules
    copies = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, library in libraries.items():
            copies.append(folder / f"{name}.so")
            shutil.copyfile(library, copies[-1])
            known = {**known, name: hashlib.sha256(library.read_bytes()).hexdigest()}
    except OSError as error:
        raise InvalidInputError(str(folder), given=f"cannot be written ({error.strerror})") from None
    manifest = made_for.model_copy(update={"modules": dict(sorted(known.items()))})
    write_text(folder / MANIFEST, canonical_json(manifest.to_data()) + "\n")
    return tuple(copies)
