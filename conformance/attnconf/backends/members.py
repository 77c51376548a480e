"""Check that an object has the members of ``Backend``: Python does not check a Protocol at run time."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, get_args

from attnconf.backends.protocol import CONTRACT, EvidenceKind, Promises
from attnconf.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_METHODS = {"supports": ("shape", "platform"), "numerics": ("shape",), "prepare": ("batch",)}
_SETS = ("dead_k", "dead_v", "table_tail", "reclaimed_v", "query_storage", "validates")


def faults(backend: object, name: str) -> list[str]:
    """Say in which members ``backend`` is none; nothing of it is run but its properties.

    ``name`` is the one under which it is registered, and its evidence must count.
    """
    return [*_value_faults(backend, name), *_method_faults(backend)]


def takes(function: Callable[..., object], count: int) -> bool:
    """Return whether ``function`` can be called with ``count`` arguments; True if it has no signature."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def parameters(function: Callable[..., object]) -> str:
    """Return the parameters of ``function`` as in a call: ``(shape, platform)``."""
    return f"({', '.join(inspect.signature(function).parameters)})"


def _method_faults(backend: object) -> Iterator[str]:
    for method, arguments in _METHODS.items():
        call = f"{method}({', '.join(arguments)})"
        member = getattr(backend, method, None)
        if not callable(member):
            yield f"it has no {call}"
        elif not takes(member, len(arguments)):
            yield f"its {method}{parameters(member)} cannot be called as {call}"


def _value_faults(backend: object, name: str) -> Iterator[str]:
    values: dict[str, object] = {}
    for member in ("name", "evidence", "promises"):
        try:
            values[member] = getattr(backend, member)
        except AttributeError:
            yield f"it has no {member}"
        except Exception as error:  # noqa: BLE001 - a property may raise anything
            yield f"reading its {member} raises {one_line(error)}"
    evidence = values.get("evidence")
    if "evidence" in values and evidence not in get_args(EvidenceKind):
        yield f"its evidence is {evidence!r}, not 'kernel' or 'contract'"
    if "name" in values:
        yield from _name_faults(values["name"], name)
    if "promises" in values:
        yield from _promise_faults(values["promises"])


def _promise_faults(given: object) -> Iterator[str]:
    if not isinstance(given, Promises):
        yield f"its promises are of type {type(given).__name__}, not Promises"
        return
    for what in _SETS:
        tolerated: object = getattr(given, what)
        if not isinstance(tolerated, frozenset):
            yield f"its promises.{what} is of type {type(tolerated).__name__}, not frozenset"


def _name_faults(given: object, name: str) -> Iterator[str]:
    """Evidence counts under the name that a backend gives itself: its own, or that of a variant in brackets."""
    if not isinstance(given, str):
        yield f"its name is {given!r}, not {name!r}"
    elif given.endswith(CONTRACT):
        yield f"its name is {given!r}, not {name!r}: that it executes a contract is said by its evidence alone"
    elif given != name and not (given.startswith(f"{name}[") and given.endswith("]")):
        yield f"its name is {given!r}, not {name!r}"
