"""Provider: who brought a backend into a run, and whether the commit that was tested contains that."""

from __future__ import annotations

from typing import Annotated

from packaging.utils import canonicalize_name
from pydantic import Field

from attnconf.backends.entries import OURS, shipped_names
from attnconf.gate.sealed import Digest
from attnconf.values import Value

_Text = Annotated[str, Field(min_length=1, max_length=1000)]


class Source(Value):
    """A file that a backend came from: its ``path`` from the top of the repository, or a whole one outside of it.

    ``sha256`` is that of its bytes, None where there is no such file. ``committed`` says whether the commit contains
    exactly it: tracked, and not changed since.
    """

    path: _Text
    sha256: Digest | None
    committed: bool


class Provider(Value):
    """Who provides a backend: an installed distribution, or the first of ``sources``, such as a conftest.

    ``entry_point`` is the one by which the distribution registers it. ``sources`` are the files that the backend comes
    from and that are not installed: the one that registers it, those of its factory and its class. Of a distribution
    only those count that stand in the repository, as for an editable install.
    """

    distribution: _Text | None = None
    version: _Text | None = None
    entry_point: _Text | None = None
    sources: tuple[Source, ...] = ()

    @property
    def strangers(self) -> tuple[str, ...]:
        """The paths of what the commit does not contain."""
        return tuple(source.path for source in self.sources if not source.committed)

    @property
    def name(self) -> str:
        """The distribution with its version, else the file, in words."""
        if self.distribution is not None:
            return " ".join(filter(None, (self.distribution, self.version)))
        return self.sources[0].path if self.sources else "an unknown place"

    @property
    def text(self) -> str:
        """The name, and what of it the commit does not contain."""
        if not self.strangers:
            return self.name
        lacking = ", ".join(path for path in self.strangers if path != self.name)
        return f"{self.name} ({lacking or 'it'} is not in the commit)"

    def is_of(self, distribution: str) -> bool:
        """Whether an entry point of ``distribution`` provides the backend."""
        own = self.distribution if self.entry_point is not None else None
        return own is not None and canonicalize_name(own) == canonicalize_name(distribution)


def provider_fault(backend: str, provider: Provider | None) -> str:
    """Return why evidence of ``backend`` does not count when it is from ``provider``, empty if it does."""
    if provider is None:
        return f"nothing says who provided {backend}"
    if provider.strangers:
        files = " and ".join(provider.strangers)
        return f"{backend} comes from {files}, which the commit does not contain as it was run: commit it"
    if backend in shipped_names() and not provider.is_of(OURS):
        return f"{backend} was provided by {provider.name}, but attnconf ships a backend of that name"
    return ""
