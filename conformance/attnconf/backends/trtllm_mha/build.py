"""Builds FlashInfer's modules ahead of the tests, in parallel, where its own calls find them.

Each module is built by its own ``JitSpec.build``. FlashInfer's ``build_jit_specs`` would build all in one run of
ninja, but leaves ninja's log one folder higher than the one in which the first call looks, and that call would build
everything again (seen with 0.6.13). Small modules are built side by side, large ones one after the other with all
jobs. The cache is FlashInfer's, below ``FLASHINFER_WORKSPACE_BASE``.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from attnconf.backends.builds import Build, BuildReport, cost
from attnconf.backends.trtllm_mha import cache, library
from attnconf.backends.trtllm_mha.capability import PACKAGE
from attnconf.backends.trtllm_mha.variants import FmhaV2, read
from attnconf.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from attnconf.platforms import Platform

ARCHITECTURES = "FLASHINFER_CUDA_ARCH_LIST"
_SOURCE = "kernel module"
_LARGE = 20
"""From this many sources on, a module is built with all jobs."""
_PROGRESS_SECONDS = 15.0

_placed: set[str] = set()


def environment(platform: Platform) -> Any:  # noqa: ANN401 - FlashInfer's module, which has no types
    """Return FlashInfer's module of cache folders, with the ready-made modules in place."""
    if platform.simulated:
        os.environ.setdefault(ARCHITECTURES, platform.sm_text)  # it is read when FlashInfer is first imported
    paths: Any = library.imported("flashinfer.jit.env")
    named = os.environ.get(cache.VARIABLE, "")
    found = None if named in _placed else cache.ready_made(platform)
    if found is not None:
        root = paths.FLASHINFER_WORKSPACE_DIR / "attnconf_ready_made"
        paths.FLASHINFER_AOT_DIR = cache.place(*found, root, paths.FLASHINFER_AOT_DIR)
        _placed.add(named)
    return paths


def library_path(name: str, platform: Platform) -> Path | None:
    """Return where the finished module ``name`` lies: ready-made, or built by FlashInfer; None if nowhere."""
    paths = environment(platform)
    candidates = [folder / name / f"{name}.so" for folder in (paths.FLASHINFER_AOT_DIR, paths.FLASHINFER_JIT_DIR)]
    if hasattr(paths, "get_aot_path"):
        candidates.insert(0, paths.get_aot_path(name))
    return next((path for path in candidates if path.exists()), None)


def build_all(builds: Sequence[Build], platform: Platform, jobs: int, progress: Callable[[str], None]) -> BuildReport:
    """Build what is missing of ``builds``; what fails is one line, and the others go on."""
    started = time.monotonic()
    cached = tuple(build.name for build in builds if library_path(build.name, platform))
    missing = [build for build in builds if build.name not in cached]
    small = [build for build in missing if build.sources < _LARGE]
    failures: dict[str, str] = {}
    for group in ([small] if small else []) + [[build] for build in missing if build.sources >= _LARGE]:
        together = min(jobs, len(group))
        with _max_jobs(max(1, jobs // together)), ThreadPoolExecutor(together) as pool:
            running = {}
            for build in group:
                try:
                    spec = jit_spec(build.name)
                except Exception as error:  # noqa: BLE001 - whatever the library raises is one failed build
                    failures[build.name] = _one_line(error)
                    continue
                running[pool.submit(spec.build, verbose=False)] = build
            failures |= _collect(running, progress, started)
    built = tuple(build.name for build in missing if build.name not in failures)
    return BuildReport(built=built, cached=cached, failures=failures, seconds=time.monotonic() - started)


def jit_spec(name: str) -> Any:  # noqa: ANN401 - FlashInfer's JitSpec
    """Return FlashInfer's specification of the module ``name``. Raises ``InvalidInputError`` for another name."""
    import torch

    found = read(name)
    if found is None:
        raise InvalidInputError(_SOURCE, given=ascii(name), allowed="a name of an XQA or FMHA v2 module")
    if isinstance(found, FmhaV2):
        generate = library.load("flashinfer.jit.attention.modules", "gen_fmha_v2_module")
        return generate(found.input_layout, getattr(torch, found.dtype), None)
    generate = library.load("flashinfer.jit.xqa", "gen_xqa_module")
    q_dtype, kv_dtype = getattr(torch, found.q_dtype), getattr(torch, found.kv_dtype)
    return generate(
        q_dtype, kv_dtype, found.page_size, found.head_dim, found.group_size, found.windowed, q_dtype, found.q_len
    )


def export(builds: Sequence[Build], folder: Path, platform: Platform) -> tuple[Path, ...]:
    """Copy finished modules into ``folder``, with a manifest. Raises ``InvalidInputError`` for a missing one."""
    found = {build.name: library_path(build.name, platform) for build in builds}
    libraries = {name: path for name, path in found.items() if path is not None}
    missing = sorted(set(found) - set(libraries))
    if missing:
        raise InvalidInputError(_SOURCE, given=f"{missing[0]} is not built", allowed="modules that are built")
    cuda = str(library.imported("flashinfer.jit.cpp_ext").get_cuda_version())
    made_for = cache.Manifest(flashinfer=platform.packages[PACKAGE], sm=platform.sm_text, cuda=cuda)
    return cache.export(libraries, folder, made_for)


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
            what = f"{total - len(waiting)} of {total} small kernel modules"
        progress(f"{what}: {'done' if not waiting else 'building'}, {said - started:.0f} s")
    return failures


@contextmanager
def _max_jobs(jobs: int) -> Iterator[None]:
    """Tell ninja, through FlashInfer, how many jobs each module may take."""
    before = os.environ.get("MAX_JOBS")
    os.environ["MAX_JOBS"] = str(jobs)
    try:
        yield
    finally:
        if before is None:
            del os.environ["MAX_JOBS"]
        else:
            os.environ["MAX_JOBS"] = before


def _one_line(error: BaseException) -> str:
    """Return the line of a compiler's output that says what is wrong, or the last one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    wrong = [line for line in lines if "error" in line.lower() and not line.startswith("[")]
    return (wrong[0] if wrong else lines[-1])[:300]
