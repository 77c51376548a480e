"""A cluster: the workers of a Dask scheduler, one piece of work each at a time.

Pieces are pinned to workers, for Dask would hand one that killed its worker to three others, and what waits behind it,
too. A worker is asked before it gets a piece whether it has this attnconf and the others' machine.
"""

from __future__ import annotations

import logging
import pkgutil
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from threading import Condition, Event
from typing import TYPE_CHECKING, Any

from attnconf.errors import AttnconfError, InvalidInputError, one_line
from attnconf.platforms import detect
from attnconf.running.processes import hosted
from attnconf.running.processes.engine import Found, LostError, Work, spoils_nothing
from attnconf.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from attnconf.platforms import Platform

_OPTION = "--cluster"
_CONNECT_SECONDS = 10
_LOOK_SECONDS = 1.0
"""How often a worker that has a piece is looked for."""
_RETURN_SECONDS = 30.0
"""How long to wait for a worker where none is left: a nanny starts one anew."""


class ClusterError(AttnconfError):
    """A cluster that cannot be used."""


class Cluster:
    """The ``Engine`` of a Dask cluster; ``address`` is its scheduler's, such as ``tcp://host:8786``.

    Raises ``ClusterError`` where Dask is missing or a worker has another attnconf or another machine than the rest, and
    ``InvalidInputError`` for an address that nothing answers at.
    """

    def __init__(self, address: str) -> None:
        self._client = _connect(address)
        self._condition = Condition()
        self._busy: set[str] = set()
        self._admitted: set[str] = set()
        self._closed = False
        try:
            workers = self._all_admitted(address)
            self._size = len(workers)
            self._check_machines(workers)
        except BaseException:
            self._client.close()
            raise

    @property
    def size(self) -> int:
        """How many workers there were at the start."""
        return self._size

    @property
    def is_here(self) -> bool:
        """Return False: see ``Engine``."""
        return False

    def __enter__(self) -> Self:
        """Return the cluster."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers' processes, and leave the workers."""
        self._closed = True
        if error is None and self._client.status == "running":
            ended = [self._submit(worker, hosted.end) for worker in self._known() if worker in self._admitted]
            _all_done(ended, _CONNECT_SECONDS)
        self._client.close()

    def map(
        self, do: Callable[[Work], Found], pieces: Sequence[Work], *, spoils: Callable[[Found], bool] = spoils_nothing
    ) -> Iterator[tuple[int, Found | LostError]]:
        """Do the pieces as ``Engine.map`` says. A worker that dies costs its piece, and one that joins gets some."""
        with ThreadPoolExecutor(self._size) as threads:
            numbers = {threads.submit(self._done, do, spoils, piece): number for number, piece in enumerate(pieces)}
            try:
                for future in as_completed(numbers):
                    yield numbers[future], future.result()
            except BaseException:
                self._closed = True
                raise

    def everywhere(self, do: Callable[[Work], Found], piece: Work) -> list[Found]:
        """Return what ``do`` returns on each worker. Raises ``ClusterError`` where one is lost."""
        workers = self._known()
        with ThreadPoolExecutor(len(workers) or 1) as threads:
            found = list(threads.map(lambda worker: self._ask(worker, do, spoils_nothing, piece), workers))
        kept = []
        for worker, one in zip(workers, found, strict=True):
            if isinstance(one, LostError):
                raise ClusterError(f"{_OPTION}: the worker {worker} is lost: {one}")
            kept.append(one)
        return kept

    def _done(self, do: Callable[[Work], Found], spoils: Callable[[Found], bool], piece: Work) -> Found | LostError:
        worker = self._take()
        if worker is None:
            return LostError("no worker of the cluster is left")
        try:
            return self._ask(worker, do, spoils, piece)
        finally:
            with self._condition:
                self._busy.discard(worker)
                self._condition.notify()

    def _take(self) -> str | None:
        """Return a worker that is free, or None where there has been none, free or not, for a while."""
        until = time.monotonic() + _RETURN_SECONDS
        with self._condition:
            while not self._closed and time.monotonic() < until:
                for worker in self._known():
                    if worker not in self._busy and not self._why_refused(worker):
                        self._busy.add(worker)
                        return worker
                if self._busy:
                    until = time.monotonic() + _RETURN_SECONDS
                self._condition.wait(_LOOK_SECONDS)
        return None

    def _ask(
        self, worker: str, do: Callable[[Work], Found], spoils: Callable[[Found], bool], piece: Work
    ) -> Found | LostError:
        """Return what ``do`` returns on ``worker``, or how that was lost. Raises what ``do`` raises."""
        try:
            life = self._client.run(hosted.life, workers=[worker])[worker]
        except Exception as error:  # noqa: BLE001 - whatever it is, the worker does not answer
            return LostError(f"the worker does not answer: {one_line(error)}")
        future = self._submit(worker, hosted.do_piece, life, do, spoils, piece)
        while not _all_done([future], _LOOK_SECONDS):
            if self._closed or worker not in self._known():
                future.cancel()
                return LostError("the worker died")
        try:
            found: Found | LostError = future.result()
        except CancelledError as error:
            return LostError(f"the cluster gave it up: {one_line(error)}")
        except Exception as error:
            if type(error).__module__.partition(".")[0] in {"dask", "distributed"}:
                return LostError(one_line(error))
            raise
        return found

    def _submit(self, worker: str, do: Callable[..., object], *given: object) -> Any:  # noqa: ANN401 - Dask has no types
        return self._client.submit(do, *given, workers=[worker], allow_other_workers=False, pure=False, retries=0)

    def _known(self) -> list[str]:
        """Return the workers that the scheduler has now; none where it is gone."""
        try:
            return sorted(self._client.nthreads())
        except Exception:  # noqa: BLE001 - a scheduler that is gone has no workers
            return []

    def _why_refused(self, worker: str) -> str:
        """Return why ``worker`` gets nothing, or an empty text."""
        if worker in self._admitted:
            return ""
        try:
            there = self._client.run(pkgutil.resolve_name, "attnconf.version:__version__", workers=[worker])[worker]
        except Exception as error:  # noqa: BLE001 - the worker's error: it lacks the package, or is gone
            return f"the worker {worker} has no attnconf ({one_line(error)})"
        if there != __version__:
            return f"the worker {worker} has attnconf {there}, and this command {__version__}"
        try:
            same = self._client.run(hosted.source_digest, workers=[worker])[worker] == _files_here()
        except Exception:  # noqa: BLE001 - its attnconf lacks what is asked
            same = False
        if not same:
            return f"the worker {worker} has other files of attnconf {there} than this command"
        self._admitted.add(worker)
        return ""

    def _all_admitted(self, address: str) -> list[str]:
        """Return the workers. Raises ``ClusterError`` where there are none, or one is refused."""
        workers = self._known()
        if not workers:
            raise ClusterError(f"{_OPTION}: {address} has no worker; start one: dask worker {address} --nthreads 1")
        refused = [why for worker in workers if (why := self._why_refused(worker))]
        if refused:
            raise ClusterError(f"{_OPTION}: {'; '.join(refused)}")
        return workers

    def _check_machines(self, workers: Sequence[str]) -> None:
        """Raise ``ClusterError`` where workers have different machines."""
        found = self.everywhere(_platform, None)
        for worker, platform in zip(workers, found, strict=True):
            if platform.model_copy(update={"driver": None}) != found[0].model_copy(update={"driver": None}):
                raise ClusterError(
                    f"{_OPTION}: the worker {workers[0]} is {_machine(found[0])}, and {worker} {_machine(platform)};"
                    " allowed: workers on equal machines, for verdicts depend on them"
                )


def _connect(address: str) -> Any:  # noqa: ANN401 - Dask has no types
    try:
        from distributed import Client
    except ImportError:
        raise ClusterError(f"{_OPTION} needs Dask: pip install 'attnconf[cluster]'") from None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what is lost is said by us, once
    connect: Any = Client
    try:
        return connect(address, timeout=_CONNECT_SECONDS, set_as_default=False, name="attnconf")
    except (OSError, TypeError, ValueError) as error:
        allowed = "the address of a Dask scheduler that runs, such as tcp://host:8786"
        raise InvalidInputError(_OPTION, given=f"{address!r} ({one_line(error)})", allowed=allowed) from None


def _files_here() -> str:
    return hosted.source_digest()


def _all_done(futures: Sequence[Any], seconds: float) -> bool:
    """Return whether all of ``futures`` are done within ``seconds``."""
    until = time.monotonic() + seconds
    for future in futures:
        done = Event()
        future.add_done_callback(lambda _, done=done: done.set())
        if not done.wait(max(0.0, until - time.monotonic())):
            return False
    return True


def _platform(_nothing: None) -> Platform:
    return detect()


def _machine(platform: Platform) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in sorted(platform.packages.items()))
    return (
        f"{platform.device} with CUDA {platform.cuda}, {packages}"
        if platform.cuda
        else f"{platform.device}, {packages}"
    )
