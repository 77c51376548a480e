"""Installed: FlashInfer's own list and selector on this machine, found and verified without importing FlashInfer.

A list is trusted by two checksums: the SHA-256 that ``flashinfer/artifacts.py`` pins is that of checksums.txt, and
checksums.txt has that of the list.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.backends.flashinfer.trtllm_gen.lists import CHECKSUMS, HEADER
from attnconf.errors import InvalidInputError
from attnconf.files import read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from attnconf.backends.flashinfer.trtllm_gen.lists import KernelList
    from attnconf.backends.flashinfer.trtllm_gen.releases import Release

_SELECTOR = "data/include/flashinfer/trtllm/fmha/fmhaKernels.cuh"


def folders(environment: Mapping[str, str] = os.environ) -> Iterator[Path]:
    """Yield where FlashInfer's kernels may be: ``FLASHINFER_CUBIN_DIR``, the package flashinfer_cubin, its cache."""
    if environment.get("FLASHINFER_CUBIN_DIR"):
        yield Path(environment["FLASHINFER_CUBIN_DIR"])
    package = _package("flashinfer_cubin")
    if package is not None:
        yield package / "cubins"
    home = environment.get("FLASHINFER_WORKSPACE_BASE") or Path.home()
    yield Path(home) / ".cache" / "flashinfer" / "cubins"


def find_list(kernels: KernelList, environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the folder of ``kernels`` on this machine, the first that has the list, or None."""
    found = (folder / kernels.folder for folder in folders(environment))
    return next((folder for folder in found if (folder / HEADER).is_file()), None)


def verified(folder: Path, kernels: KernelList) -> str:
    """Return the text of the list in ``folder``. Raises ``InvalidInputError`` for any that is not ``kernels``."""
    path = folder / CHECKSUMS
    checksums = read_bytes(path)
    found = hashlib.sha256(checksums).hexdigest()
    if found != kernels.checksums:
        allowed = f"{kernels.checksums}, which flashinfer pins for list {kernels.short}"
        raise InvalidInputError(str(path), field="SHA-256", given=found, allowed=allowed)
    content = read_bytes(folder / HEADER)
    named = [line.split()[0] for line in checksums.decode(errors="replace").splitlines() if line.endswith(HEADER)]
    if not named:
        raise InvalidInputError(str(path), given=f"names no {HEADER}")
    found = hashlib.sha256(content).hexdigest()
    if found != named[0]:
        raise InvalidInputError(
            str(folder / HEADER), field="SHA-256", given=found, allowed=f"{named[0]}, as {CHECKSUMS} has it"
        )
    return content.decode(errors="replace")


def selector_path() -> Path | None:
    """Return the ``fmhaKernels.cuh`` of the installed flashinfer-python, or None."""
    package = _package("flashinfer")
    path = None if package is None else package / _SELECTOR
    return path if path is not None and path.is_file() else None


def refuse_other_selector(release: Release, path: Path) -> None:
    """Raise ``InvalidInputError`` if ``path`` is not the selector that ``release`` has: a changed copy answers else."""
    found = hashlib.sha256(read_bytes(path)).hexdigest()
    if found != release.selector:
        allowed = f"{release.selector}, which flashinfer-python {release.version} has"
        raise InvalidInputError(str(path), field="SHA-256", given=found, allowed=allowed)


def _package(name: str) -> Path | None:
    """Return the folder of an installed package; it is not imported."""
    found = importlib.util.find_spec(name)
    return None if found is None or found.origin is None else Path(found.origin).parent
