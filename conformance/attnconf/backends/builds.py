"""Builds: the kernels that a backend compiles for the shapes that it is asked, as values.

A backend that compiles is a ``Builder`` besides a ``Backend``; one that does not simply lacks these methods. A build
that costs more than a budget never starts inside a test: it is used if it is there, and otherwise what needs it is not
run.
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
"""CPU seconds that one build may take without being asked for by name."""

_MINUTE = 60.0


@dataclass(frozen=True)
class Build:
    """One kernel module: the name that its library gives it, the CPU seconds that it costs, and its source files.

    ``sources`` bounds how many jobs can work on it at once.
    """

    name: str
    cpu_seconds: float
    sources: int = 1


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What came of some builds: by name, those built now, those that were there, and one line for each that failed."""

    built: tuple[str, ...] = ()
    cached: tuple[str, ...] = ()
    failures: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


@runtime_checkable
class Builder(Protocol):
    """A backend that compiles kernels for the shapes that it is asked."""

    def builds(self, shapes: Iterable[KernelShape]) -> tuple[Build, ...]:
        """Return what the supported ones of ``shapes`` need: pure, without a GPU, without importing the library."""
        ...

    def is_built(self, build: Build) -> bool:
        """Return whether ``build`` is there."""
        ...

    def build(self, builds: Sequence[Build], jobs: int, progress: Callable[[str], None]) -> BuildReport:
        """Build what is missing with ``jobs`` jobs; ``progress`` receives a line now and then."""
        ...

    def export(self, builds: Sequence[Build], folder: Path) -> tuple[Path, ...]:
        """Copy finished builds into a folder from which another machine of this kind can take them.

        Raises ``UnsupportedError`` with the reason where they cannot be carried.
        """
        ...


@runtime_checkable
class CompilesOnDemand(Protocol):
    """A backend whose library compiles what a call needs, and can be kept from it."""

    def without_compiling(self) -> AbstractContextManager[None]:
        """Return a context in which a call that needs a module that is not built raises ``UnbuiltError``."""
        ...


def without_compiling(backend: Backend) -> AbstractContextManager[None]:
    """Return a context in which ``backend`` compiles nothing, if it knows how."""
    return backend.without_compiling() if isinstance(backend, CompilesOnDemand) else nullcontext()


def missing_build(backend: Backend, shape: KernelShape, budget: float = BUILD_BUDGET) -> Build | None:
    """Return what must be built before ``shape`` can be run, or None: cheaper builds start when first needed."""
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
    """Return what ``build`` costs, in words."""
    return cost_text(build.cpu_seconds)


def cost_text(cpu_seconds: float) -> str:
    """Return a time of compilers in words."""
    if cpu_seconds < _MINUTE:
        return f"about {cpu_seconds:.0f} CPU seconds"
    return f"about {cpu_seconds / _MINUTE:.0f} CPU minutes"


def wall_seconds(builds: Sequence[Build], jobs: int) -> float:
    """Return an estimate of the time that ``builds`` take with ``jobs`` jobs on as many idle cores."""
    if not builds:
        return 0.0
    longest = max(build.cpu_seconds / min(build.sources, jobs) for build in builds)
    return max(longest, sum(build.cpu_seconds for build in builds) / jobs)
