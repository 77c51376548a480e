"""Fleet: the runners that a gate has, as a file, and which changed files concern which backend's kernels."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Literal, Self

from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, Field, model_validator

from attnconf.files import read_text
from attnconf.platforms import PACKAGES, Platform, parse_sm, platform_text
from attnconf.policy.requirements import Name
from attnconf.values import Value, parse_toml

if TYPE_CHECKING:
    from pathlib import Path


def _version(text: str) -> str:
    try:
        Version(text)
    except InvalidVersion:
        message = "a version such as 2.11.0"
        raise ValueError(message) from None
    return text


VersionText = Annotated[str, Field(max_length=60), AfterValidator(_version)]
Package = Literal["torch", "triton", "flashinfer-python", "flashinfer-cubin"]
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w. -]{0,99}$")]
Glob = Annotated[str, Field(min_length=1, max_length=300)]


class Runner(Value):
    """Machines of one kind: the ``labels`` that a job asks for, what they are, and how many there are.

    ``sm`` is the compute capability, None for a machine without a GPU; ``packages`` are the versions installed there,
    beside those of the whole fleet.
    """

    name: Name
    labels: Annotated[tuple[Label, ...], Field(min_length=1)]
    sm: Annotated[str, Field(pattern=r"^\d{1,2}\.\d$")] | None = None
    cuda: VersionText | None = None
    count: Annotated[int, Field(ge=1, le=1000, strict=True)] = 1
    packages: dict[Package, VersionText] = Field(default_factory=dict)


class Fleet(Value):
    """A fleet file.

    ``packages`` are the versions that every runner has unless it says otherwise. ``kernels`` lists, by backend, the
    files (patterns, in which ``*`` crosses folders) that only this backend is made of, and ``harmless`` those that no
    kernel is made of; a change of any other file concerns every cell.
    """

    schema_id: Literal["attnconf.fleet/1"] = Field(alias="schema")
    packages: dict[Package, VersionText] = Field(default_factory=dict)
    runners: Annotated[tuple[Runner, ...], Field(min_length=1, max_length=200)]
    kernels: dict[Name, tuple[Glob, ...]] = Field(default_factory=dict)
    harmless: tuple[Glob, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [runner.name for runner in self.runners]
        twin = next((name for name in names if names.count(name) > 1), None)
        if twin is not None:
            message = f"runners of distinct names, but two are called {twin}"
            raise ValueError(message)
        return self

    @cached_property
    def by_name(self) -> dict[str, Runner]:
        """The runners by their names."""
        return {runner.name: runner for runner in self.runners}

    def platform(self, runner: Runner) -> Platform:
        """Return what ``runner`` is said to be."""
        return Platform(
            device=runner.name,
            sm=None if runner.sm is None else parse_sm(runner.sm),
            cuda=runner.cuda,
            packages={str(name): version for name, version in {**self.packages, **runner.packages}.items()},
        )

    def text(self, runner: Runner) -> str:
        """Return the runner in words: ``b200 (labels self-hosted, b200; SM 10.0 with CUDA 13.0)``."""
        return f"{runner.name} (labels {', '.join(runner.labels)}; {platform_text(self.platform(runner))})"

    def backends_of(self, path: str) -> tuple[str, ...] | None:
        """Return the backends that a change of the file ``path`` concerns, None for all of them."""
        found = tuple(name for name, globs in self.kernels.items() if _matches(path, globs))
        return found if found or _matches(path, self.harmless) else None


def differences(stated: Platform, found: Platform) -> tuple[str, ...]:
    """Return in which ways ``found`` is not the machine that a fleet ``stated``, in words; packages not named are free.

    A stated version without a local part (``2.11.0``) is also met with one (``2.11.0+cu130``).
    """
    lines = []
    if stated.sm != found.sm:
        lines.append(f"SM {found.sm_text}, not {stated.sm_text}")
    pairs = [("CUDA", stated.cuda, found.cuda)] if stated.cuda else []
    pairs += [(name, stated.packages[name], found.packages.get(name)) for name in PACKAGES if name in stated.packages]
    lines += [f"{name} {here or 'none'}, not {asked}" for name, asked, here in pairs if not _is_same(asked, here)]
    return tuple(lines)


def _is_same(asked: str, found: str | None) -> bool:
    try:
        here = Version(found or "")
    except InvalidVersion:
        return False
    wanted = Version(asked)
    return wanted == here or (wanted.local is None and wanted == Version(here.public))


def _matches(path: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(path, glob) for glob in globs)


def read_fleet(path: Path) -> Fleet:
    """Read the fleet file ``path``. Raises ``InvalidInputError`` for anything that is not one."""
    return parse_fleet(read_text(path), str(path))


def parse_fleet(text: str, source: str) -> Fleet:
    """Read a fleet from the ``text`` of ``source``. Raises ``InvalidInputError`` for anything that is not one."""
    return Fleet.from_data(parse_toml(text, source), source)
