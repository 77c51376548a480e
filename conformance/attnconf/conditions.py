"""Conditions: what a platform must be, as values; no expression is ever evaluated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, Field

from attnconf.canonical import Value

if TYPE_CHECKING:
    from attnconf.platforms import Platform


def _specifier(text: str) -> str:
    try:
        parsed = SpecifierSet(text)
    except InvalidSpecifier:
        parsed = SpecifierSet()
    if not len(parsed):
        message = 'version specifiers such as ">=12.8" or ">=0.6.10.post1,<0.8"'
        raise ValueError(message)
    return text


SmPattern = Annotated[str, Field(pattern=r"^\d{1,2}\.(\d|x)$")]
"""A compute capability: ``"9.0"`` exactly, ``"10.x"`` for every minor of 10, and for no other major."""

Specifier = Annotated[str, AfterValidator(_specifier)]
PackageName = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")]


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

    ``sm`` lists compute capabilities of which one must match, ``cuda`` constrains the CUDA runtime's version, and
    ``packages`` those of installed distributions.
    """

    sm: tuple[SmPattern, ...] = ()
    cuda: Specifier | None = None
    packages: dict[PackageName, Specifier] = Field(default_factory=dict)

    @property
    def is_always(self) -> bool:
        """Whether every platform fulfils it."""
        return not (self.sm or self.cuda or self.packages)

    @property
    def text(self) -> str:
        """The demand in words, such as ``SM 10.x with CUDA >=12.8``."""
        parts = [f"SM {' or '.join(self.sm)}"] if self.sm else []
        parts += [f"CUDA {self.cuda}"] if self.cuda else []
        parts += [f"{name} {specifier}" for name, specifier in self.packages.items()]
        return " with ".join(parts) or "any platform"

    def floors(self, platform: Platform) -> tuple[Floor, ...]:
        """Compare each demand with ``platform``."""
        floors = []
        if self.sm:
            found = None if platform.sm is None else platform.sm_text
            met = any(_matches(pattern, platform) for pattern in self.sm)
            floors.append(Floor(subject="SM", needs=" or ".join(self.sm), found=found, met=met))
        if self.cuda is not None:
            floors.append(_version_floor("CUDA", self.cuda, platform.cuda))
        installed = {canonicalize_name(name): version for name, version in platform.packages.items()}
        floors += [
            _version_floor(name, specifier, installed.get(canonicalize_name(name)))
            for name, specifier in self.packages.items()
        ]
        return tuple(floors)

    def holds(self, platform: Platform) -> bool:
        """Whether ``platform`` fulfils every demand."""
        return all(floor.met for floor in self.floors(platform))


def _matches(pattern: str, platform: Platform) -> bool:
    if platform.sm is None:
        return False
    major, minor = pattern.split(".")
    return platform.sm[0] == int(major) and minor in {"x", str(platform.sm[1])}


def _version_floor(subject: str, specifier: str, found: str | None) -> Floor:
    try:
        met = found is not None and SpecifierSet(specifier).contains(Version(found), prereleases=True)
    except InvalidVersion:
        met = False
    return Floor(subject=subject, needs=specifier, found=found, met=met)
