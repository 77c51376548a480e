"""Conditions: what a platform and its settings must be, as values; no expression is ever evaluated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from packaging.utils import canonicalize_name
from pydantic import Field, model_validator

from attnconf.cases.case import KVDtype
from attnconf.policy.question import Algorithm, Mask, Named, Question
from attnconf.policy.ranges import SmPattern, Specifier, WholeRange, sm_in, version_in, whole_in
from attnconf.values import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attnconf.platforms import Platform

PackageName = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")]

Axis = str
"""What a condition may ask about: ``sm``, ``cuda``, ``package NAME``, ``kv_dtype``, ``mask``, ``q_len``,
``speculative``, ``topk``, ``page_size``, ``user``."""

PACKAGE = "package "
OPEN_PAGE_SIZE = "none"
"""The page size of a user who names none."""


class Floor(Value):
    """One demand on a platform, and what was found: ``found`` is None when there is nothing to compare."""

    subject: str
    needs: str
    found: str | None
    met: bool

    @property
    def sentence(self) -> str:
        """Say what is needed and what is here."""
        return f"needs {self.subject} {self.needs}, found {self.found or 'none'}"


class Condition(Value):
    """A demand on the platform; what is left empty is not asked.

    ``sm`` lists sets of compute capabilities of which one must match, ``cuda`` constrains the CUDA runtime's version,
    and ``packages`` those of installed distributions.
    """

    sm: tuple[SmPattern, ...] = ()
    cuda: Specifier | None = None
    packages: dict[PackageName, Specifier] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len({canonicalize_name(name) for name in self.packages}) < len(self.packages):
            message = f"each package once, not {' and '.join(sorted(self.packages))}"
            raise ValueError(message)
        return self

    @property
    def platform_asks(self) -> dict[Axis, Any]:
        """What is asked of the platform, by axis."""
        asked: dict[Axis, Any] = {"sm": self.sm, "cuda": self.cuda}
        asked |= {PACKAGE + canonicalize_name(name): specifier for name, specifier in self.packages.items()}
        return {axis: value for axis, value in asked.items() if value}

    @property
    def asks(self) -> Mapping[Axis, Any]:
        """What is asked, by axis."""
        return self.platform_asks

    @property
    def is_always(self) -> bool:
        """Whether nothing is asked."""
        return not self.asks

    @property
    def text(self) -> str:
        """The demand in words, such as ``SM 10.x with CUDA >=12.8``."""
        return (
            " with ".join(f"{subject(axis)} {in_words(value)}" for axis, value in self.asks.items()) or "any platform"
        )

    def floors(self, platform: Platform) -> tuple[Floor, ...]:
        """Compare each demand on the platform with ``platform``."""
        return tuple(
            Floor(
                subject=subject(axis),
                needs=in_words(value),
                found=_found(axis, found),
                met=meets(axis, value, found),
            )
            for axis, value in self.platform_asks.items()
            for found in [platform_value(axis, platform)]
        )

    def holds(self, platform: Platform) -> bool:
        """Whether ``platform`` fulfils every demand."""
        return all(floor.met for floor in self.floors(platform))


class Situation(Condition):
    """A demand on the platform and on what is served there; what is left empty is not asked.

    Of each list one entry must match; ``page_size`` may be ``none``, when the user leaves it to the engine. ``user``
    lists which sides the user named: none, prefill, decode, both, or split, which is each side by itself and
    differently.
    """

    kv_dtype: tuple[KVDtype, ...] = ()
    mask: tuple[Mask, ...] = ()
    q_len: tuple[WholeRange, ...] = ()
    speculative: tuple[Algorithm, ...] = ()
    topk: tuple[WholeRange, ...] = ()
    page_size: tuple[WholeRange | Literal["none"], ...] = ()
    user: tuple[Named, ...] = ()

    @property
    def asks(self) -> Mapping[Axis, Any]:
        """What is asked, by axis."""
        axes = ("kv_dtype", "mask", "q_len", "speculative", "topk", "page_size", "user")
        settings = {axis: getattr(self, axis) for axis in axes}
        return {**self.platform_asks, **{axis: value for axis, value in settings.items() if value}}

    def takes(self, question: Question) -> bool:
        """Whether ``question`` fulfils every demand."""
        return all(meets(axis, value, value_of(axis, question)) for axis, value in self.asks.items())


def meets(axis: Axis, asked: Any, value: Any) -> bool:  # noqa: ANN401 - each axis has its own type
    """Whether ``value`` is what a condition asks of ``axis``."""
    match axis:
        case "sm":
            return any(sm_in(pattern, value) for pattern in asked)
        case "page_size" if value is None:
            return OPEN_PAGE_SIZE in asked
        case "page_size":
            return any(whole_in(one, value) for one in asked if one != OPEN_PAGE_SIZE)
        case "q_len" | "topk":
            return any(whole_in(one, value) for one in asked)
        case "kv_dtype" | "mask" | "speculative" | "user":
            return value in asked
        case _:
            return version_in(asked, value)


def platform_value(axis: Axis, platform: Platform) -> Any:  # noqa: ANN401 - each axis has its own type
    """Return what ``platform`` is on an axis of ``Condition``."""
    if axis in {"sm", "cuda"}:
        return getattr(platform, axis)
    wanted = axis.removeprefix(PACKAGE)
    return next((text for name, text in platform.packages.items() if canonicalize_name(name) == wanted), None)


def value_of(axis: Axis, question: Question) -> Any:  # noqa: ANN401 - each axis has its own type
    """Return what ``question`` says on ``axis``."""
    if axis == "user":
        return question.user.named
    if axis in Question.model_fields:
        return getattr(question, axis)
    return platform_value(axis, question.platform)


def subject(axis: Axis) -> str:
    """Return what an axis is called in a sentence."""
    return {"sm": "SM", "cuda": "CUDA", "user": "user's choice of"}.get(axis, axis.removeprefix(PACKAGE))


def in_words(asked: Any) -> str:  # noqa: ANN401 - each axis has its own type
    """Return what is asked of an axis, as a sentence shows it."""
    return asked if isinstance(asked, str) else " or ".join(map(str, asked))


def _found(axis: Axis, value: Any) -> str | None:  # noqa: ANN401 - each axis has its own type
    return f"{value[0]}.{value[1]}" if axis == "sm" and value is not None else value
