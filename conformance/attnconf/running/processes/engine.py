"""What runs pieces of work in other processes: of this machine (``Crew``), or of a cluster (``Cluster``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

Work = TypeVar("Work")
Found = TypeVar("Found")


class LostError(Exception):
    """A process died at its piece of work: the reason. What became of the piece is not known."""


def spoils_nothing(_found: object) -> bool:
    """Return that a process may go on."""
    return False


class Engine(Protocol):
    """Where pieces of work are done. What is handed over is found there by its name: a function of a module, values."""

    @property
    def size(self) -> int:
        """How many pieces it does at once."""
        ...

    @property
    def is_here(self) -> bool:
        """Whether ``everywhere`` is this process."""
        ...

    def __enter__(self) -> Self:
        """Return the engine."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what it started."""
        ...

    def map(
        self, do: Callable[[Work], Found], pieces: Sequence[Work], *, spoils: Callable[[Found], bool] = spoils_nothing
    ) -> Iterator[tuple[int, Found | LostError]]:
        """Yield what ``do`` returns for each of ``pieces``, as it comes, or the error of a process that died.

        The number of the piece stands before it. What ``spoils`` says has spoilt its process ends that. Raises what
        ``do`` raises.
        """
        ...

    def everywhere(self, do: Callable[[Work], Found], piece: Work) -> list[Found]:
        """Return what ``do`` returns for ``piece`` at each place with kernels and caches of its own.

        That is this process on one machine, and each worker of a cluster. Raises what ``do`` raises, and
        ``AttnconfError`` where a worker is lost.
        """
        ...
