"""The registry finds backends by name: entry points of the group ``attnconf.backends``, and a conftest's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from attnconf.backends.entries import find_entries, load, not_callable, sole_entry, title
from attnconf.backends.members import faults, parameters, takes
from attnconf.errors import BackendUnavailableError, UnknownBackendError, one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.backends.protocol import Backend
    from attnconf.platforms import Platform

_SAY_IT = "let it raise BackendUnavailableError with what this machine lacks"


class Registry:
    """Backend factories by name. A backend is imported when ``make`` is called for it."""

    def __init__(self) -> None:
        self._entries = find_entries()
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

        Raises ``UnknownBackendError`` for an unregistered name, and ``BackendUnavailableError`` when the backend cannot
        work here, when its code fails, or when the factory's result is not a backend.
        """
        who, own_name = f"backend {name}", None
        try:
            factory: object = self._factories.get(name)
            if factory is None:
                if name not in self._entries:
                    raise UnknownBackendError("backend", field="name", given=repr(name), allowed=", ".join(self.names))
                entry = sole_entry(self._entries[name])
                who, own_name = title(entry), name
                factory = load(entry)
            made = _start(who, factory, platform)
        except SystemExit as error:  # a library that ends the process when it does not like the machine
            raise BackendUnavailableError(f"{who} ends the process: exit {error.code}; {_SAY_IT}") from error
        found = faults(made, own_name)
        if found:
            lacks = ", ".join(found).replace(", it has no ", ", no ")
            raise BackendUnavailableError(f"{who} is no backend: {lacks}; see attnconf.backends.protocol")
        return cast("Backend", made)


def _start(who: str, factory: object, platform: Platform) -> object:
    if not callable(factory):
        raise BackendUnavailableError(f"{who} does not load: {not_callable(factory)}")
    called = getattr(factory, "__name__", type(factory).__name__)
    if not takes(factory, 1):
        why = f"{called}{parameters(factory)} cannot be called with the platform alone; define it as {called}(platform)"
        raise BackendUnavailableError(f"{who} does not start: {why}")
    try:
        made: object = factory(platform)
    except BackendUnavailableError:
        raise
    except Exception as error:
        raise BackendUnavailableError(f"{who} does not start: {one_line(error)}; mend it, or {_SAY_IT}") from error
    if made is None:
        raise BackendUnavailableError(f"{who} does not start: {called} returned None; let it return the backend")
    return made
