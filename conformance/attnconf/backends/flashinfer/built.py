"""Built: what all backends over FlashInfer do alike with the modules that it compiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.backends.flashinfer import jit, places

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from attnconf.backends.builds import Build
    from attnconf.platforms import Platform


class BuiltByFlashInfer:
    """A backend of ``platform`` whose modules FlashInfer finds, keeps in a folder, and would compile on demand."""

    platform: Platform

    def is_built(self, build: Build) -> bool:
        """Return whether FlashInfer finds the module."""
        return places.library_path(build.name, self.platform) is not None

    def import_library(self) -> None:
        """Import FlashInfer, which takes seconds."""
        places.environment(self.platform)

    def export(self, builds: Sequence[Build], folder: Path) -> tuple[Path, ...]:
        """Copy finished modules into ``folder``: a kernel cache."""
        return places.export(builds, folder, self.platform)

    def without_compiling(self) -> AbstractContextManager[None]:
        """Return a context in which FlashInfer does not compile."""
        return jit.without_jit()
