"""Conditions on a platform and its settings, as values. No expression is ever evaluated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Self

from packaging.utils import canonicalize_name
from pydantic import Field, model_validator

from attnconf.cases.dtypes import KVDtype
from attnconf.policy.axes import AXES, package_axis
from attnconf.policy.question import Algorithm, Deterministic, Mask, Named, Question
from attnconf.policy.ranges import OpenRange, SmPattern, Specifier, WholeRange
from attnconf.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from attnconf.platforms import Platform
    from attnconf.policy.axes import Axis

PackageName = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")]


class Floor(Value):
    """One demand on a platform, and what it has; ``found`` is None when it has nothing to compare."""

    subject: str
    needs: str
    found: str | None
    met: bool

    @property
    def sentence(self) -> str:
        """What is needed and what is here, in words."""
        return f"needs {self.subject} {self.needs}, found {self.found or 'none'}"


class Condition(Value):
    """A demand on the platform. An empty field demands nothing.

    ``sm`` lists sets of compute capabilities, one of which must match. ``cuda`` constrains the version of the CUDA
    runtime, ``packages`` the versions of installed distributions.
    """

    sm: tuple[SmPattern, ...] = ()
    cuda: Specifier | None = None
    packages: dict[PackageName, Specifier] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len({canonicalize_name(name) for name in self.packages}) < len(self.packages):
            raise ValueError(f"each package once, not {' and '.join(sorted(self.packages))}")
        return self

    @property
    def platform_asks(self) -> dict[Axis[Any, Any], Any]:
        """The demands on the platform, by axis."""
        asked = {axis: getattr(self, axis.name) for axis in AXES if axis.role == "platform"}
        asked |= {package_axis(name): specifier for name, specifier in self.packages.items()}
        return {axis: value for axis, value in asked.items() if value}

    @property
    def asks(self) -> Mapping[Axis[Any, Any], Any]:
        """The demands, by axis."""
        return self.platform_asks

    @property
    def is_always(self) -> bool:
        """Whether there is no demand."""
        return not self.asks

    @property
    def text(self) -> str:
        """The demand in words, such as ``SM 10.x with CUDA >=12.8``."""
        demands = [f"{axis.subject} {_in_words(asked)}" for axis, asked in self.asks.items()]
        return " with ".join(demands) or "any platform"

    def floors(self, platform: Platform) -> tuple[Floor, ...]:
        """Compare each demand on the platform with ``platform``."""
        question = Question(architecture="any", platform=platform)
        return tuple(
            Floor(
                subject=axis.subject,
                needs=_in_words(asked),
                found=axis.text(axis.value_of(question)),
                met=axis.contains(asked, axis.value_of(question)),
            )
            for axis, asked in self.platform_asks.items()
        )

    def holds(self, platform: Platform) -> bool:
        """Whether ``platform`` fulfils every demand."""
        return all(floor.met for floor in self.floors(platform))


class Situation(Condition):
    """A demand on the platform and on the served model. An empty field demands nothing.

    One entry of each list must match. ``page_size`` may be ``none``: the user leaves it to the engine; so may ``topk``:
    nothing is drafted, or the engine has no trees. ``user`` lists the sides for which the user named a backend:
    none, prefill, decode, both, or split (another one for each side).
    """

    kv_dtype: tuple[KVDtype, ...] = ()
    mask: tuple[Mask, ...] = ()
    q_len: tuple[WholeRange, ...] = ()
    speculative: tuple[Algorithm, ...] = ()
    topk: tuple[OpenRange, ...] = ()
    page_size: tuple[OpenRange, ...] = ()
    deterministic: tuple[Deterministic, ...] = ()
    user: tuple[Named, ...] = ()

    @property
    def asks(self) -> Mapping[Axis[Any, Any], Any]:
        """The demands, by axis."""
        served = {axis: getattr(self, axis.name) for axis in AXES if axis.role != "platform"}
        return {**self.platform_asks, **{axis: value for axis, value in served.items() if value}}

    def takes(self, question: Question) -> bool:
        """Whether ``question`` fulfils every demand."""
        return all(axis.contains(asked, axis.value_of(question)) for axis, asked in self.asks.items())


def _in_words(asked: str | Iterable[object]) -> str:
    """Return a demand on an axis, for a sentence."""
    return asked if isinstance(asked, str) else " or ".join(map(str, asked))
