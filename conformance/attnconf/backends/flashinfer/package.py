"""The distribution behind every FlashInfer backend: its name, and the oldest release with known calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.version import Version

if TYPE_CHECKING:
    from attnconf.platforms import Platform

PACKAGE = "flashinfer-python"
FLOOR = Version("0.6.10.post1")
REMEDY = f"pip install '{PACKAGE}>={FLOOR}'"


def library_version(platform: Platform) -> Version | None:
    """Return the version of flashinfer-python on ``platform``, None when it is missing or unreadable."""
    return platform.version(PACKAGE)
