"""Entry points of the group ``attnconf.backends``: their distributions, and the reasons why one does not load."""

from __future__ import annotations

import importlib
from functools import reduce
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from attnconf.errors import BackendUnavailableError, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.metadata import EntryPoint

GROUP = "attnconf.backends"
OURS = "attnconf"
"""The distribution whose backends are shipped."""

_NAME_IT = "let the entry point name the function that makes the backend"


def find_entries() -> dict[str, list[EntryPoint]]:
    """Return the entry points of each name. An object that two distributions register counts once."""
    found: dict[str, dict[str, EntryPoint]] = {}
    for entry in entry_points(group=GROUP):
        found.setdefault(entry.name, {}).setdefault(entry.value, entry)
    return {name: list(by_value.values()) for name, by_value in found.items()}


def shipped_names() -> frozenset[str]:
    """Return the names of the backends that attnconf itself brings."""
    found = find_entries()
    return frozenset(name for name, entries in found.items() if any(_owner(entry) == OURS for entry in entries))


def sole_entry(entries: Sequence[EntryPoint]) -> EntryPoint:
    """Return the only entry point of a name. Raises ``BackendUnavailableError`` if several distributions claim it.

    Their order on the search path does not say which one was meant, so none of them is used.
    """
    if len(entries) == 1:
        return entries[0]
    foreign = sorted((entry for entry in entries if _owner(entry) != OURS), key=_owner)
    ordered = [*(entry for entry in entries if entry not in foreign), *foreign]
    claims = " and ".join(f"by {_distribution(entry)} (entry point {entry.value})" for entry in ordered)
    rename = f"rename the entry point of {_owner(foreign[0])}" if len(foreign) == 1 else "rename all of them but one"
    raise BackendUnavailableError(f"backend {entries[0].name} is registered {_times(len(entries))}: {claims}; {rename}")


def title(entry: EntryPoint) -> str:
    """Return the subject of sentences about an entry point: its backend, its distribution and its value."""
    return f"backend {entry.name} of {_distribution(entry)} (entry point {entry.value})"


def load(entry: EntryPoint) -> object:
    """Return the object that ``entry`` names. Raises ``BackendUnavailableError`` with the reason if there is none."""
    if entry.pattern.match(entry.value) is None:
        raise _not_loaded(entry, "that does not read module:function; correct the entry point")
    try:
        found: object = importlib.import_module(entry.module)
    except ModuleNotFoundError as error:
        raise _not_loaded(entry, _what_is_not_there(entry, error)) from error
    except Exception as error:
        where = f"python -c 'import {entry.module}' shows where"
        raise _not_loaded(entry, f"importing {entry.module} raises {one_line(error)}; {where}") from error
    try:
        return reduce(getattr, filter(None, (entry.attr or "").split(".")), found)
    except AttributeError as error:
        raise _not_loaded(entry, f"{entry.module} has no {entry.attr}; {_NAME_IT}") from error


def not_callable(found: object) -> str:
    """Return a sentence that says why a registered object is not a factory, and what to do."""
    return f"what it names is of type {type(found).__name__}, and no function; {_NAME_IT}"


def _what_is_not_there(entry: EntryPoint, error: ModuleNotFoundError) -> str:
    missing = error.name or str(error)
    if f"{entry.module}.".startswith(f"{missing}."):
        return f"there is no module {entry.module}; correct the entry point, or put the module into the wheel"
    library = missing.partition(".")[0]
    remedy = "install it" if _owner(entry) == OURS else f"install it, and declare that {_owner(entry)} needs it"
    return f"{entry.module} imports {library}, which is not installed; {remedy}"


def _not_loaded(entry: EntryPoint, why: str) -> BackendUnavailableError:
    return BackendUnavailableError(f"{title(entry)} does not load: {why}")


def _owner(entry: EntryPoint) -> str:
    return "an unknown package" if entry.dist is None else entry.dist.name


def _distribution(entry: EntryPoint) -> str:
    return _owner(entry) if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"


def _times(count: int) -> str:
    return "twice" if count == 2 else f"{count} times"  # noqa: PLR2004 - the word for two
