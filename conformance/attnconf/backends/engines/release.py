"""Releases of an engine: which ones an adapter was read and tried against, and what to do without one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnconf.errors import BackendUnavailableError

if TYPE_CHECKING:
    from attnconf.platforms import Platform

REMEDY = "make engines installs it in an environment of its own"


@dataclass(frozen=True)
class Releases:
    """The ``tested`` releases of ``package``: an engine's inside is no interface, so any other may differ."""

    package: str
    tested: tuple[str, ...]

    def why_not(self, platform: Platform) -> str | None:
        """Return why the engine of ``platform`` cannot be asked, or None. Reads metadata alone."""
        version = platform.packages.get(self.package)
        if version is None:
            return f"{self.package} is not installed; {REMEDY}"
        if version not in self.tested:
            tested = ", ".join(self.tested)
            return f"{self.package} {version} is not among the releases that the adapter was tried with ({tested})"
        return None

    def require(self, name: str, platform: Platform) -> None:
        """Raise ``BackendUnavailableError`` for backend ``name`` where ``why_not`` has a reason."""
        reason = self.why_not(platform)
        if reason is not None:
            raise BackendUnavailableError(f"backend {name} cannot run here: {reason}")
