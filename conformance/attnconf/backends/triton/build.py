"""Compile launches before a run, in separate processes, into Triton's cache.

A marker beside Triton's own entries says that a launch is compiled for this Triton, these sources and this GPU.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnconf.backends.builds import BuildReport
from attnconf.backends.triton.tuning import MAX_SPLIT_TOKENS
from attnconf.backends.triton.variants import LaunchBuild, Variant
from attnconf.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

    from attnconf.backends.builds import Build
    from attnconf.cases.case import Mode
    from attnconf.cases.inputs.batch import Batch
    from attnconf.platforms import Platform

_PROGRESS_SECONDS = 15.0
_KEYS = 1024
"""Keys of the batch for which a launch is compiled. So many are split, so the merge is compiled, too."""


def marker(build: Build, platform: Platform) -> Path:
    """Return the file that marks ``build`` as compiled; it is in Triton's cache."""
    import triton

    digest = _digest(platform.packages.get("triton", ""), platform.sm_text)
    return Path(triton.knobs.cache.dir) / "attnconf" / digest / build.name


@cache
def _digest(version: str, sm: str) -> str:
    """Return what tells apart launches compiled by other versions, of other sources or for other GPUs."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    made_of = [version, sm, *(path.read_text() for path in sources)]
    return hashlib.sha256("\0".join(made_of).encode()).hexdigest()[:16]


def build_all(builds: Sequence[Build], platform: Platform, jobs: int, progress: Callable[[str], None]) -> BuildReport:
    """Compile the missing ones of ``builds`` in ``jobs`` processes. A failure is one line, and the others continue."""
    started = time.monotonic()
    cached = tuple(build.name for build in builds if marker(build, platform).exists())
    missing = [build for build in builds if isinstance(build, LaunchBuild) and build.name not in cached]
    failures: dict[str, str] = {}
    if missing:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(jobs, len(missing)), mp_context=context) as pool:
            running = {pool.submit(compile_variant, build.variant): build for build in missing}
            failures = _collect(running, platform, progress, started)
    built = tuple(build.name for build in missing if build.name not in failures)
    return BuildReport(built=built, cached=cached, failures=failures, seconds=time.monotonic() - started)


def _collect(
    running: dict[Future[None], LaunchBuild], platform: Platform, progress: Callable[[str], None], started: float
) -> dict[str, str]:
    failures: dict[str, str] = {}
    waiting, said = set(running), started
    while waiting:
        done, waiting = wait(waiting, timeout=_PROGRESS_SECONDS, return_when=FIRST_COMPLETED)
        for future in done:
            error = future.exception()
            if error is not None:
                failures[running[future].name] = one_line(error)
                continue
            made = marker(running[future], platform)
            made.parent.mkdir(parents=True, exist_ok=True)
            made.touch()
        if not waiting or time.monotonic() - said >= _PROGRESS_SECONDS:
            said = time.monotonic()
            count = f"{len(running) - len(waiting)} of {len(running)} Triton launches"
            progress(f"{count}: {'done' if not waiting else 'compiling'}, {said - started:.0f} s")
    return failures


def compile_variant(variant: Variant, device: str = "cuda") -> None:
    """Compile ``variant``: the launches of small batches of its shape, one for each size of the merge."""
    import torch

    from attnconf.backends.triton.launch import Launches
    from attnconf.cases.inputs.target import make_target

    torch.set_num_threads(1)
    # With split keys, the merge depends on the number of rows; an extend of any length is the same code.
    last = variant.most if variant.most <= MAX_SPLIT_TOKENS else variant.fewest
    for tokens in range(variant.fewest, last + 1):
        batch = _batch(variant, tokens, torch.device(device))
        target = make_target(batch, 0, lse=True)
        Launches(batch).compile(0, target.out, target.lse)


def _batch(variant: Variant, tokens: int, device: torch.device) -> Batch:
    """Return one request of ``tokens`` query tokens of the shape of ``variant``, and a tree beside it if it has one."""
    from attnconf.cases.case import Case, Layer, Paging
    from attnconf.cases.dtypes import Dtypes
    from attnconf.cases.inputs.assemble import assemble
    from attnconf.cases.inputs.layout import place
    from attnconf.cases.inputs.logical import make_logical
    from attnconf.cases.request import Request

    several = variant.tree or variant.bidirectional  # a step in which another request has several tokens
    mode: Mode = "verify" if several else "decode" if tokens == 1 else "extend"
    window: dict[str, Any] = {"kind": "sliding", "window_left": _KEYS} if variant.windowed else {"kind": "full"}
    if variant.chunked:
        window = {"kind": "chunked", "chunk_size": 2 * _KEYS}
    case = Case(
        mode=mode,
        q_dtype=variant.q_dtype,
        kv_dtype=variant.kv_dtype,
        out_dtype=Dtypes(variant.q_dtype, variant.kv_dtype, variant.out_dtype).stated_out,
        layers=(
            Layer(
                **window,
                num_qo_heads=variant.num_qo_heads,
                num_kv_heads=variant.num_kv_heads,
                head_dim=variant.head_dim,
                head_dim_v=variant.head_dim_v,
                sm_scale=variant.head_dim**-0.5,
                logits_soft_cap=30.0 if variant.soft_cap else None,
                sinks=variant.sinks,
                spans=variant.spans,
                bidirectional=variant.bidirectional,
            ),
        ),
        requests=(
            Request(prefix_len=_KEYS, new_tokens=tokens, spans=((0, _KEYS + tokens),) if variant.spans else ()),
            *([Request(prefix_len=_KEYS, new_tokens=2, tree=(-1, -1) if variant.tree else ())] if several else []),
        ),
        paging=Paging(page_size=variant.page_size, layout=variant.kv_layout, storage=variant.storage),
    )
    return assemble(case, place(case), make_logical(case), device)
