"""Messages between a backend's process and its caller, which may import neither the backend nor torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Literal, TypedDict

from attnconf.backends.builds import BUILD_BUDGET

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.backends.protocol import Backend
    from attnconf.cases.case import Case
    from attnconf.judging.checks.catalogue import CheckSelection
    from attnconf.platforms import Platform


class Options(TypedDict, total=False):
    """Options of ``run_case`` that a caller chooses for each case."""

    explain: bool
    count_effects: bool


class Answer(Enum):
    """What a process says, in this order: that it is there, how its backend came up, and one result for each case."""

    BEGUN = auto()
    UNREACHABLE = auto()
    """Its factory cannot be imported there: the reason."""
    UNAVAILABLE = auto()
    """The backend, or its device, does not come up: the sentence."""
    DECLARED = auto()
    """The backend stands: its ``Declaration``."""
    RESULT = auto()
    """A ``CaseResult``."""
    LAST = auto()
    """A ``CaseResult`` after which the process cannot go on: its device is lost."""
    RETURNED = auto()
    """What the calls of a ``Call`` returned, in their order."""
    RAISED = auto()
    """What a ``Call`` raised, in a line."""


@dataclass(frozen=True)
class Spec:
    """What a process needs to make its backend: its registered name, or a factory that pickle can name."""

    name: str
    platform: Platform
    factory: Callable[[Platform], Backend] | None = None
    build_budget: float = BUILD_BUDGET


@dataclass(frozen=True)
class Call:
    """A method of the backend that declares something, and the arguments of each call of it: values of ours."""

    method: Literal["supports", "numerics", "builds", "is_built"]
    arguments: tuple[tuple[object, ...], ...]


Question = tuple["Case", "CheckSelection | None", "Options"] | Call
"""A case, which checks judge it (None: only what is declared unsupported is asked), and options of ``run_case``."""
