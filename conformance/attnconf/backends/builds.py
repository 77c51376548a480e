"""Builds: the kernels that a backend compiles for given shapes, as values.

A backend that compiles kernels is also a ``Builder``; any other backend lacks these methods. A build that costs more
than a budget never starts inside a test: cases that need it run only if it is already built.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from attnconf.escape import shell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from attnconf.backends.protocol import Backend
    from attnconf.cases.shape import KernelShape

BUILD_BUDGET = 120.0
"""CPU seconds of the longest build that starts inside a test."""

VARIANT_BUDGET = 5.0
"""CPU seconds of the longest build that starts for a variant of a case that is one of very many.

Triton's launches are below it. An XQA module is above: a search over keys and values of one dtype would compile half as
many modules again for siblings over another, one by one, inside its cases.
"""

_MINUTE = 60.0


@dataclass(frozen=True)
class Build:
    """One kernel module: its name in its library, the CPU seconds of its build, and its number of source files.

    ``sources`` limits how many jobs can build it at once.
    """

    name: str
    cpu_seconds: float
    sources: int = 1


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """The result of some builds: the names built now, the names built before, and one line for each failure."""

    built: tuple[str, ...] = ()
    cached: tuple[str, ...] = ()
    failures: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


@runtime_checkable
class Builder(Protocol):
    """A backend that compiles kernels for given shapes."""

    def builds(self, shapes: Iterable[KernelShape]) -> tuple[Build, ...]:
        """Return the builds for the supported ones of ``shapes``. Pure: no GPU, and no import of the library."""
        ...

    def is_built(self, build: Build) -> bool:
        """Return whether ``build`` is done."""
        ...

    def build(self, builds: Sequence[Build], jobs: int, progress: Callable[[str], None]) -> BuildReport:
        """Build the missing ones of ``builds`` with ``jobs`` jobs; ``progress`` receives a line now and then."""
        ...

    def export(self, builds: Sequence[Build], folder: Path) -> tuple[Path, ...]:
        """Copy finished builds into a folder for other machines of this kind.

        Raises ``UnsupportedError`` with the reason if they cannot be copied.
        """
        ...


@runtime_checkable
class CompilesOnDemand(Protocol):
    """A backend whose library compiles modules on demand, which can be turned off."""

    def without_compiling(self) -> AbstractContextManager[None]:
        """Return a context in which calls compile nothing: without their module, they raise ``UnbuiltError``."""
        ...


def without_compiling(backend: Backend) -> AbstractContextManager[None]:
    """Return a context in which ``backend`` compiles nothing if it is a ``CompilesOnDemand``."""
    return backend.without_compiling() if isinstance(backend, CompilesOnDemand) else nullcontext()


def missing_build(backend: Backend, shape: KernelShape, budget: float = BUILD_BUDGET) -> Build | None:
    """Return the build above ``budget`` that ``shape`` still lacks, or None; cheaper builds start when first needed."""
    if not isinstance(backend, Builder):
        return None
    for build in backend.builds((shape,)):
        if build.cpu_seconds > budget and not backend.is_built(build):
            return build
    return None


def unbuilt_reason(build: Build) -> str:
    """Return in words why a shape whose ``build`` is missing is not run."""
    command = shell(["attnconf", "build", "--module", build.name])
    return f"its kernel module {build.name} is not built ({cost(build)}; {command})"


def cost(build: Build) -> str:
    """Return the cost of ``build`` in words."""
    return cost_text(build.cpu_seconds)


def cost_text(cpu_seconds: float) -> str:
    """Return CPU seconds in words."""
    if cpu_seconds < _MINUTE:
        return f"about {cpu_seconds:.0f} CPU seconds"
    return f"about {cpu_seconds / _MINUTE:.0f} CPU minutes"


def wall_seconds(builds: Sequence[Build], jobs: int) -> float:
    """Return an estimate of the seconds that ``builds`` take with ``jobs`` jobs on as many idle cores."""
    if not builds:
        return 0.0
    longest = max(build.cpu_seconds / min(build.sources, jobs) for build in builds)
    return max(longest, sum(build.cpu_seconds for build in builds) / jobs)
