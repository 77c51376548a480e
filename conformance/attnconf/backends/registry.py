"""The registry finds backends by name: entry points of the group ``attnconf.backends``, and a conftest's own."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from attnconf.backends.entries import find_entries, load, not_callable, sole_entry, title
from attnconf.backends.members import faults, parameters, takes
from attnconf.backends.protocol import CONTRACT
from attnconf.errors import BackendUnavailableError, InvalidInputError, UnknownBackendError, one_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.metadata import EntryPoint

    from attnconf.backends.protocol import Backend
    from attnconf.platforms import Platform

_SAY_IT = "let it raise BackendUnavailableError with what this machine lacks"
_OURS = frozenset({"attnconf", "pytest_attnconf"})


@dataclass(frozen=True)
class Origin:
    """Where a backend is registered: by the entry points of one or more distributions, or in the file ``place``."""

    entries: tuple[EntryPoint, ...] = ()
    place: str = ""
    factory: Callable[[Platform], Backend] | None = None


class Registry:
    """Backend factories by name. A backend is imported when ``make`` is called for it."""

    def __init__(self) -> None:
        self._entries = find_entries()
        self._factories: dict[str, Callable[[Platform], Backend]] = {}
        self._places: dict[str, str] = {}

    def register(self, name: str, factory: Callable[[Platform], Backend]) -> None:
        """Add a backend; the file that does so may replace its own.

        Raises ``InvalidInputError`` for a name that an installed distribution or another file has: nobody could tell
        whose evidence it is.
        """
        place = _caller()
        source = f"{place}: registry.register"
        if not isinstance(name, str) or not name or name.endswith(CONTRACT):
            allowed = f"a name that does not end in {CONTRACT}"
            raise InvalidInputError(source, field="name", given=repr(name), allowed=allowed)
        owner = self._places.get(name, place)
        if name in self._entries:
            owner = " and ".join(title(entry) for entry in self._entries[name])
        if owner != place:
            allowed = "a name that nobody has, for evidence counts under it"
            raise InvalidInputError(source, field="name", given=f"{name!r}, which {owner} has", allowed=allowed)
        self._factories[name] = factory
        self._places[name] = place

    def registered(self, name: str) -> Callable[[Platform], Backend] | None:
        """Return the factory that a conftest registered under ``name``; None for an installed backend."""
        return self._factories.get(name)

    def origin(self, name: str) -> Origin:
        """Return where ``name`` is registered; nothing is imported. Raises ``KeyError`` for a name that nobody has."""
        if name in self._factories:
            return Origin(place=self._places[name], factory=self._factories[name])
        return Origin(entries=tuple(self._entries[name]))

    @property
    def names(self) -> tuple[str, ...]:
        """Every registered name, sorted."""
        return tuple(sorted({*self._entries, *self._factories}))

    def refuse_unknown(self, name: str) -> None:
        """Raise ``UnknownBackendError`` for a name that nothing registered."""
        if name not in self.names:
            raise UnknownBackendError("backend", field="name", given=repr(name), allowed=", ".join(self.names))

    def make(self, name: str, platform: Platform) -> Backend:
        """Return the backend ``name`` for ``platform``.

        Raises ``UnknownBackendError`` for an unregistered name, and ``BackendUnavailableError`` when the backend cannot
        work here, when its code fails, or when the factory's result is not a backend.
        """
        who = f"backend {name}"
        try:
            factory: object = self._factories.get(name)
            if factory is None:
                self.refuse_unknown(name)
                entry = sole_entry(self._entries[name])
                who = title(entry)
                factory = load(entry)
            made = _start(who, factory, platform)
        except SystemExit as error:  # a library that ends the process when it does not like the machine
            raise BackendUnavailableError(f"{who} ends the process: exit {error.code}; {_SAY_IT}") from error
        found = faults(made, name)
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


def _caller() -> str:
    """Return the file whose code registers a backend: the nearest caller that is not attnconf itself."""
    frame = sys._getframe(1)  # noqa: SLF001 - documented, and the only way to ask who calls
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _OURS:
        frame = frame.f_back
    return frame.f_code.co_filename
