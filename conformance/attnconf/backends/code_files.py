"""The files that hold the code of a backend: those of its factory, and of the classes of what the factory made."""

from __future__ import annotations

import sys
from functools import partial, reduce
from inspect import unwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.metadata import EntryPoint

    from attnconf.backends.registry import Origin

_CONFTEST = "conftest"


def code_files(origin: Origin, made: object = None) -> tuple[str, ...]:
    """Return the names of the files that hold the code of a backend, each once; nothing is imported for it.

    ``made`` is the backend (None: it was not made, so only its factory is looked at, if that was imported).
    """
    factory: object = _loaded(origin.entries[0]) if origin.entries else origin.factory
    while isinstance(factory, partial):
        factory = factory.func
    found = dict.fromkeys(_of_function(factory))
    for kind in type(made).__mro__ if made is not None else ():
        found |= dict.fromkeys(_of_class(kind))
    # what a decorator made, such as the methods of a dataclass, has no file: <string>
    return tuple(name for name in found if name and not name.startswith("<"))


def _loaded(entry: EntryPoint) -> object:
    """Return what ``entry`` names, if its module was imported."""
    try:
        return reduce(getattr, filter(None, (entry.attr or "").split(".")), sys.modules.get(entry.module))
    except (
        AttributeError,
        ValueError,
    ):  # it does not read module:function; which of the two, its reader's library says
        return None


def _of_function(function: object) -> Iterator[str]:
    code = getattr(unwrap(function) if callable(function) else function, "__code__", None)
    yield str(getattr(code, "co_filename", ""))
    yield _of_module(function)


def _of_class(kind: type) -> Iterator[str]:
    """Yield the file of a class, and those of its functions: one of them may have been put in from elsewhere."""
    yield _of_module(kind)
    for member in vars(kind).values():
        function = getattr(member, "fget", None) or getattr(member, "__func__", member)
        if hasattr(function, "__code__"):
            yield from _of_function(function)


def _of_module(thing: object) -> str:
    """Return the file of the module of ``thing``, or an empty text.

    Several files may be imported as ``conftest``, one after the other: for them the code of functions says which it is.
    """
    name = str(getattr(thing, "__module__", ""))
    return "" if name == _CONFTEST else str(getattr(sys.modules.get(name), "__file__", None) or "")
