"""A crew: a process pool whose workers fail independently and share the GPUs round-robin.

``ProcessPoolExecutor`` ends as a whole when one of its processes dies, and hands the next piece of work to one whose
GPU an illegal access has broken. So each member here is a pool of one process, and starts anew after either.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from attnconf.running.processes.gpus import use_only, visible_gpus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

Work = TypeVar("Work")
Found = TypeVar("Found")


class Crew:
    """``size`` processes, started as they are needed."""

    def __init__(self, size: int) -> None:
        gpus = visible_gpus()
        self._members = [_Member(index, gpus) for index in range(size)]

    def __enter__(self) -> Self:
        """Return the crew."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes."""
        for member in self._members:
            member.end()

    def map(
        self, do: Callable[[Work], Found], pieces: Sequence[Work], *, spoils: Callable[[Found], bool] = lambda _: False
    ) -> Iterator[Found | BrokenProcessPool]:
        """Yield what ``do`` returns for each of ``pieces``, in their order, or the error of a process that died.

        What ``spoils`` says has spoilt its process ends that. Raises what ``do`` raises.
        """
        free: SimpleQueue[_Member] = SimpleQueue()
        for member in self._members:
            free.put(member)

        def done(piece: Work) -> Found | BrokenProcessPool:
            member = free.get()
            try:
                found = member.run(do, piece)
                if isinstance(found, BrokenProcessPool) or spoils(found):
                    member.end()
                return found
            finally:
                free.put(member)

        with ThreadPoolExecutor(len(self._members)) as threads:
            yield from threads.map(done, pieces)


class _Member:
    def __init__(self, index: int, gpus: tuple[str, ...]) -> None:
        self._settings = (index, gpus)
        self._pool: ProcessPoolExecutor | None = None

    def run(self, do: Callable[[Work], Found], piece: Work) -> Found | BrokenProcessPool:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=use_only, initargs=self._settings)
        try:
            return self._pool.submit(do, piece).result()
        except BrokenProcessPool as error:
            return error

    def end(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
