"""A crew: a process pool whose workers fail independently and share the GPUs round-robin.

``ProcessPoolExecutor`` ends as a whole when one of its processes dies, and hands the next piece of work to one whose
GPU an illegal access has broken. So each member here is a pool of one process, and starts anew after either. What a
member was at when it died is known from ``watched``.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext, suppress
from multiprocessing.connection import wait
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

from attnconf.errors import one_line
from attnconf.running.processes.engine import Found, LostError, Work, spoils_nothing
from attnconf.running.processes.gpus import use_only, visible_gpus
from attnconf.running.processes.server import server_context, start_server, without_main
from attnconf.running.processes.watched import Note, note_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from multiprocessing.context import ForkServerContext, SpawnContext
    from pathlib import Path
    from types import TracebackType
    from typing import Self


class Crew:
    """The ``Engine`` of one machine: ``size`` processes, started as they are needed.

    They are forked from the ``served`` server of backends' processes, which has imported torch, or begin with nothing.
    """

    def __init__(self, size: int, *, served: bool = False) -> None:
        gpus = visible_gpus()
        self._served = served
        self._members = [_Member(index, gpus, served=served) for index in range(size)]

    @property
    def size(self) -> int:
        """How many processes there are."""
        return len(self._members)

    @property
    def is_here(self) -> bool:
        """Return True: see ``Engine``."""
        return True

    def __enter__(self) -> Self:
        """Return the crew."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes, at once where something went wrong."""
        if error is not None:
            self._kill()
        self.end()

    def end(self) -> None:
        """End the processes; what is asked later starts them anew."""
        with ThreadPoolExecutor(len(self._members)) as threads:  # each takes a second to let go of its GPU
            list(threads.map(_Member.end, self._members))

    def map(
        self, do: Callable[[Work], Found], pieces: Sequence[Work], *, spoils: Callable[[Found], bool] = spoils_nothing
    ) -> Iterator[tuple[int, Found | LostError]]:
        """Do the pieces as ``Engine.map`` says."""
        if self._served:
            start_server()
        free: SimpleQueue[_Member] = SimpleQueue()
        for member in self._members:
            member.is_killed = False
            free.put(member)

        def done(piece: Work) -> Found | LostError:
            member = free.get()
            try:
                found = member.run(do, piece)
                if isinstance(found, LostError) or spoils(found):
                    member.end()
                return found
            finally:
                free.put(member)

        threads = ThreadPoolExecutor(len(self._members))
        numbers = {threads.submit(done, piece): number for number, piece in enumerate(pieces)}
        try:
            for future in as_completed(numbers):
                yield numbers[future], future.result()
        except BaseException:  # an error, Ctrl-C, or nobody wants more: the threads would wait for what is under way
            threads.shutdown(wait=False, cancel_futures=True)
            self._kill()
            raise
        finally:
            threads.shutdown()

    def _kill(self) -> None:
        for member in self._members:
            member.kill()

    def everywhere(self, do: Callable[[Work], Found], piece: Work) -> list[Found]:
        """Return what ``do`` returns in this process, which has the machine's caches."""
        return [do(piece)]


class _Member:
    def __init__(self, index: int, gpus: tuple[str, ...], *, served: bool) -> None:
        self._settings = (index, gpus)
        self._served = served
        self._pool: ProcessPoolExecutor | None = None
        self._note: Note | None = None
        self._process = 0
        self.is_killed = False

    def run(self, do: Callable[[Work], Found], piece: Work) -> Found | LostError:
        try:
            pool = self._started()
            if self.is_killed:
                return LostError("ended before it began")
            return pool.submit(do, piece).result()
        except BrokenProcessPool as error:
            return LostError(one_line(error) if self._note is None else self._note.last_words(one_line(error)))

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            context: SpawnContext | ForkServerContext = multiprocessing.get_context("spawn")
            if self._served:
                context = server_context()
            self._note = Note()
            given = (*self._settings, self._note.path, dict(os.environ))
            self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=given)
            with without_main() if self._served else nullcontext():
                begun = self._pool.submit(os.getpid)
            self._process = begun.result()
        return self._pool

    def kill(self) -> None:
        """End the process at once, whatever it is at, and let it begin nothing."""
        self.is_killed = True
        if self._process:
            with suppress(OSError):
                os.kill(self._process, signal.SIGKILL)

    def end(self) -> None:
        """End the process when it is done."""
        pool, self._pool, self._process = self._pool, None, 0
        if pool is not None:
            pool.shutdown(cancel_futures=True)
        if self._note is not None:
            self._note.close()
            self._note = None


def _begin(index: int, gpus: Sequence[str], note: Path, environment: Mapping[str, str]) -> None:
    """Set up a member's process: its GPU, its note, its environment, and its end with the process that started it.

    Ctrl-C and the SIGTERM of a group are for that one, which ends the others. A server keeps the environment in which
    it started itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.environ.clear()
    os.environ.update(environment)
    use_only(index, gpus)
    note_in(note)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent is gone: a pool's process waits for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
