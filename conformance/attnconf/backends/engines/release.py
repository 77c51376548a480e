"""Releases of an engine: the ones for which an adapter was written and tested, and the remedy without one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnconf.errors import BackendUnavailableError

if TYPE_CHECKING:
    from attnconf.platforms import Platform

REMEDY = "make engines installs it in an environment of its own"


@dataclass(frozen=True)
class Releases:
    """The ``tested`` releases of ``package``. An engine's internals may differ in any other release."""

    package: str
    tested: tuple[str, ...]

    def why_not(self, platform: Platform) -> str | None:
        """Return why the engine of ``platform`` cannot be used, or None. Imports nothing."""
        version = platform.packages.get(self.package)
        if version is None:
            return f"{self.package} is not installed; {REMEDY}"
        if version not in self.tested:
            tested = ", ".join(self.tested)
            return f"{self.package} {version} is not among the releases that the adapter was tried with ({tested})"
        return None

    def require(self, name: str, platform: Platform) -> None:
        """Raise ``BackendUnavailableError`` for backend ``name`` if ``why_not`` gives a reason."""
        reason = self.why_not(platform)
        if reason is not None:
            raise BackendUnavailableError(f"backend {name} cannot run here: {reason}")
