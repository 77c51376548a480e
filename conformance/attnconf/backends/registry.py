"""Finds backends by name: entry points of the group ``attnconf.backends``, and those that a conftest registers."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from attnconf.errors import BackendUnavailableError, UnknownBackendError

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.backends.protocol import Backend
    from attnconf.platforms import Platform

GROUP = "attnconf.backends"


class Registry:
    """Backend factories by name. Nothing is imported before a backend is asked for."""

    def __init__(self) -> None:
        self._entries = {entry.name: entry for entry in entry_points(group=GROUP)}
        self._factories: dict[str, Callable[[Platform], Backend]] = {}

    def register(self, name: str, factory: Callable[[Platform], Backend]) -> None:
        """Add a backend, or replace the installed one of that name."""
        self._factories[name] = factory

    def registered(self, name: str) -> Callable[[Platform], Backend] | None:
        """Return the factory that a conftest registered under ``name``; None for an installed backend."""
        return self._factories.get(name)

    @property
    def names(self) -> tuple[str, ...]:
        """Every registered name, sorted."""
        return tuple(sorted({*self._entries, *self._factories}))

    def make(self, name: str, platform: Platform) -> Backend:
        """Return the backend ``name`` for ``platform``.

        Raises ``UnknownBackendError`` for a name that nothing registered, and ``BackendUnavailableError`` when the
        backend cannot work here or its own code does not load.
        """
        factory = self._factories.get(name)
        if factory is None:
            entry = self._entries.get(name)
            if entry is None:
                place = "backend"
                raise UnknownBackendError(place, field="name", given=repr(name), allowed=", ".join(self.names))
            try:
                factory = entry.load()
            except Exception as error:
                message = f"backend {name} ({entry.value}) does not load: {type(error).__name__}: {error}"
                raise BackendUnavailableError(message) from error
        try:
            return factory(platform)
        except BackendUnavailableError:
            raise
        except Exception as error:
            message = f"backend {name} does not start: {type(error).__name__}: {error}"
            raise BackendUnavailableError(message) from error
