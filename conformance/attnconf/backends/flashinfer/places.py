"""The places of finished modules: the kernel cache, or FlashInfer's builds in ``FLASHINFER_WORKSPACE_BASE``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from attnconf.backends.flashinfer import cache, library
from attnconf.backends.flashinfer.package import PACKAGE
from attnconf.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from attnconf.backends.builds import Build
    from attnconf.platforms import Platform

ARCHITECTURES = "FLASHINFER_CUDA_ARCH_LIST"
LOGGING = "FLASHINFER_LOGGING_LEVEL"
_placed: set[str] = set()


def environment(platform: Platform) -> Any:  # noqa: ANN401 - FlashInfer's module, which has no types
    """Return FlashInfer's module of cache folders, with the ready-made modules in place."""
    os.environ.setdefault(LOGGING, "warning")  # attnconf prints one line about all builds instead
    if platform.simulated:
        os.environ.setdefault(ARCHITECTURES, platform.sm_text)  # FlashInfer reads it when it is first imported
    paths: Any = library.imported("flashinfer.jit.env")
    named = os.environ.get(cache.VARIABLE, "")
    found = None if named in _placed else cache.ready_made(platform)
    if found is not None:
        root = paths.FLASHINFER_WORKSPACE_DIR / "attnconf_ready_made"
        paths.FLASHINFER_AOT_DIR = cache.place(*found, root, paths.FLASHINFER_AOT_DIR)
        _placed.add(named)
    return paths


def library_path(name: str, platform: Platform) -> Path | None:
    """Return the path of the finished module ``name``, from the kernel cache or built here; None without one."""
    paths = environment(platform)
    candidates = [folder / name / f"{name}.so" for folder in (paths.FLASHINFER_AOT_DIR, paths.FLASHINFER_JIT_DIR)]
    if hasattr(paths, "get_aot_path"):
        candidates.insert(0, paths.get_aot_path(name))
    return next((path for path in candidates if path.exists()), None)


def export(builds: Sequence[Build], folder: Path, platform: Platform) -> tuple[Path, ...]:
    """Copy finished modules into ``folder``, with a manifest. Raises ``InvalidInputError`` for a missing one."""
    found = {build.name: library_path(build.name, platform) for build in builds}
    libraries = {name: path for name, path in found.items() if path is not None}
    missing = sorted(set(found) - set(libraries))
    if missing:
        raise InvalidInputError("kernel module", given=f"{missing[0]} is not built", allowed="modules that are built")
    cuda = str(library.imported("flashinfer.jit.cpp_ext").get_cuda_version())
    made_for = cache.Manifest(flashinfer=platform.packages[PACKAGE], sm=platform.sm_text, cuda=cuda)
    return cache.export(libraries, folder, made_for)
