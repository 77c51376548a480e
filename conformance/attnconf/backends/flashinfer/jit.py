"""Build FlashInfer's modules before the tests, in parallel, in the place where its own calls find them.

Each module is built by its own ``JitSpec.build``. FlashInfer's ``build_jit_specs`` builds all of them in one run of
ninja, but leaves ninja's log one folder above the one in which the first call looks, which then builds everything again
(seen with 0.6.13). Each is built under FlashInfer's lock of that module, which a first call takes, too: another process
may build or load the same module meanwhile, and ninja, run twice at once in one folder, loses its log. From 0.6.18 on
FlashInfer takes none unless it is told to.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from attnconf.backends.builds import Build, BuildReport, cost
from attnconf.backends.flashinfer.library import version
from attnconf.backends.flashinfer.places import library_path
from attnconf.errors import BackendUnavailableError, UnbuiltError
from attnconf.wording import cut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from attnconf.platforms import Platform

    Specify = Callable[[str], Any]
    """From a module's name to FlashInfer's ``JitSpec``."""

_SHORT_SECONDS = 60.0
"""Up to so many CPU seconds a module is built by one job: the idle jobs at the end cost little."""
_PROGRESS_SECONDS = 15.0
_LONGEST_ERROR = 300
_NO_JIT = "FLASHINFER_DISABLE_JIT"


def build_all(
    builds: Sequence[Build], platform: Platform, specify: Specify, jobs: int, progress: Callable[[str], None]
) -> BuildReport:
    """Build the missing ones of ``builds``. A failure becomes one line, and the others continue."""
    started = time.monotonic()
    cached = tuple(build.name for build in builds if library_path(build.name, platform))
    missing = [build for build in builds if build.name not in cached]
    failures: dict[str, str] = {}
    for group, together in groups(missing, jobs):
        with _max_jobs(max(1, jobs // together)), ThreadPoolExecutor(together) as pool:
            running = {}
            for build in group:
                try:
                    spec = _spec(build.name, specify)
                except Exception as error:  # noqa: BLE001 - whatever the library raises is one failed build
                    failures[build.name] = _one_line(error)
                    continue
                running[pool.submit(spec.build, verbose=False, need_lock=True)] = build
            failures |= _collect(running, progress, started)
    built = tuple(build.name for build in missing if build.name not in failures)
    return BuildReport(built=built, cached=cached, failures=failures, seconds=time.monotonic() - started)


def groups(builds: Sequence[Build], jobs: int) -> Iterator[tuple[list[Build], int]]:
    """Yield groups of builds, each with the number of its builds that run at once and share the jobs.

    Short builds run side by side, with one job each if there are many. A long build whose sources keep all jobs busy
    runs alone, so that it ends early. Other long builds run side by side, as many as end soonest.
    """
    short = [build for build in builds if build.cpu_seconds < _SHORT_SECONDS]
    long = [build for build in builds if build.cpu_seconds >= _SHORT_SECONDS]
    if short:
        yield short, min(jobs, len(short))
    for build in long:
        if build.sources >= jobs:
            yield [build], 1
    if narrow := [build for build in long if build.sources < jobs]:
        yield narrow, _side_by_side(len(narrow), max(build.sources for build in narrow), jobs)


def _spec(name: str, specify: Specify) -> Any:  # noqa: ANN401 - FlashInfer's JitSpec
    """Return the specification of ``name``. Raises ``BackendUnavailableError`` if FlashInfer's name differs."""
    spec = specify(name)
    if spec.name != name:
        raise BackendUnavailableError(f"flashinfer {version()} calls this module {spec.name}")
    return spec


def _side_by_side(count: int, sources: int, jobs: int) -> int:
    """Return how many of ``count`` builds to run at once to end soonest, if all of their ``sources`` take as long."""

    def rounds(together: int) -> int:
        return -(-count // together) * -(-sources // (jobs // together))

    return min(range(min(count, jobs), 0, -1), key=rounds)


def _collect(running: dict[Future[None], Build], progress: Callable[[str], None], started: float) -> dict[str, str]:
    failures: dict[str, str] = {}
    waiting, total = set(running), len(running)
    said = started
    while waiting:
        done, waiting = wait(waiting, timeout=_PROGRESS_SECONDS, return_when=FIRST_COMPLETED)
        for future in done:
            error = future.exception()
            if error is not None:
                failures[running[future].name] = _one_line(error)
        if waiting and time.monotonic() - said < _PROGRESS_SECONDS:
            continue
        said = time.monotonic()
        if total == 1:
            build = next(iter(running.values()))
            what = f"{build.name} ({cost(build)})"
        else:
            what = f"{total - len(waiting)} of {total} kernel modules"
        progress(f"{what}: {'done' if not waiting else 'building'}, {said - started:.0f} s")
    return failures


def _max_jobs(jobs: int) -> AbstractContextManager[None]:
    """Limit the jobs of ninja per module, through FlashInfer."""
    return _variable("MAX_JOBS", str(jobs))


@contextmanager
def without_jit() -> Iterator[None]:
    """Turn off compiling in FlashInfer. A call whose module is not built raises ``UnbuiltError``.

    FlashInfer reads the variable in each call (``JitSpec.build_and_load``), and names it in its refusal.
    """
    try:
        with _variable(_NO_JIT, "1"):
            yield
    except RuntimeError as error:
        if _NO_JIT not in str(error):
            raise
        message = "FlashInfer compiles a module for it before it could refuse, and that is not built"
        raise UnbuiltError(message) from error


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """Set an environment variable inside the block."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _one_line(error: BaseException) -> str:
    """Return the line with the error in a compiler's output, or its last line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    wrong = [line for line in lines if "error" in line.lower() and not line.startswith("[")]
    return cut(wrong[0] if wrong else lines[-1], _LONGEST_ERROR)
