"""Clause 16: a CUDA graph captured once gives right answers when replayed over longer and shorter batches."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch

from attnconf.cases.inputs.poison import bits
from attnconf.cases.inputs.target import make_target
from attnconf.clauses import Clause
from attnconf.judging.checks.agreement import Comparison, compare_all
from attnconf.judging.checks.check import Check
from attnconf.judging.execution import read_output
from attnconf.judging.posed import PosedCase
from attnconf.judging.result import Failure
from attnconf.judging.trial import Trial

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.backends.protocol import Replayable
    from attnconf.cases.case import Case
    from attnconf.cases.inputs.batch import Batch, KVCache
    from attnconf.cases.trees import Tree

CHECK_NAME = "cuda_graph"
_WARM_UPS = 2
"""Launches before the capture, in which kernels are compiled and workspaces grow."""

_CAPTURED = ("decode", "verify")
"""Modes that engines capture. They do not capture an extend, whose shape changes with every batch."""


def shorter(case: Case) -> Case:
    """Return ``case`` with shorter prefixes (the last one empty), other trees and seed, and no shared pages."""
    last = len(case.requests) - 1
    requests = tuple(
        request.resized(0 if index == last else request.prefix_len // 2, request.new_tokens).model_copy(
            update={"shares_with": None, "shared_pages": 0, "tree": _another(request.tree)}
        )
        for index, request in enumerate(case.requests)
    )
    return case.model_copy(update={"requests": requests, "seed": case.seed ^ 1})


def _another(tree: Tree) -> Tree:
    """Return another tree of as many drafts: all from the prefix, or in pairs."""
    flat = (-1,) * len(tree)
    return flat if tree != flat else tuple(max(-1, token - 2) for token in range(len(tree)))


def own_memory(batch: Batch, *, like: Batch) -> Batch:
    """Return a copy of ``batch`` whose memory has room for ``like``, too."""
    pages = [max(a.k.shape[0], b.k.shape[0]) for a, b in zip(batch.caches, like.caches, strict=True)]
    caches = tuple(_room_for(cache, count) for cache, count in zip(batch.caches, pages, strict=True))
    columns = max(batch.block_tables.shape[1], like.block_tables.shape[1])
    slots = None
    if batch.full_to_swa is not None and like.full_to_swa is not None:
        slots = batch.full_to_swa.new_zeros(max(batch.full_to_swa.shape[0], like.full_to_swa.shape[0]))
    static = replace(
        batch,
        seq_lens=batch.seq_lens.clone(),
        qo_indptr=batch.qo_indptr.clone(),
        block_tables=batch.block_tables.new_zeros((batch.block_tables.shape[0], columns)),
        full_to_swa=slots,
        row_spans=_cleared(batch.row_spans if batch.row_spans is not None else like.row_spans),
        tree_mask=_copy(batch.tree_mask),
        row_depths=_copy(batch.row_depths),
        max_seq_len=max(batch.max_seq_len, like.max_seq_len),
        layers=tuple(
            replace(layer, q=_room(layer.q, len(layer.q)), sinks=_copy(layer.sinks)) for layer in batch.layers
        ),
        caches=caches,
    )
    return load(static, batch)


def load(static: Batch, batch: Batch) -> Batch:
    """Copy the contents of ``batch``, which may have fewer pages and columns, into the memory of ``static``."""
    static.seq_lens.copy_(batch.seq_lens)
    static.block_tables.zero_()
    static.block_tables[:, : batch.block_tables.shape[1]].copy_(batch.block_tables)
    if static.full_to_swa is not None and batch.full_to_swa is not None:
        static.full_to_swa.zero_()
        static.full_to_swa[: batch.full_to_swa.shape[0]].copy_(batch.full_to_swa)
    for target, source in zip(static.layers, batch.layers, strict=True):
        target.q.copy_(source.q)
        if target.sinks is not None and source.sinks is not None:
            target.sinks.copy_(source.sinks)
    for kept, cache in zip(static.caches, batch.caches, strict=True):
        for memory, contents in ((kept.k, cache.k), (kept.v, cache.v)):
            bits(memory)[: contents.shape[0]].copy_(bits(contents))
    for drafts, others in ((static.tree_mask, batch.tree_mask), (static.row_depths, batch.row_depths)):
        if drafts is not None and others is not None:
            drafts.copy_(others)
    if static.row_spans is not None:
        static.row_spans.zero_()  # what a row has that is in no span
        if batch.row_spans is not None:
            static.row_spans.copy_(batch.row_spans)
    return replace(static, q_lens=batch.q_lens, kv_lens=batch.kv_lens)


def _room_for(cache: KVCache, pages: int) -> KVCache:
    """Return a zeroed cache of ``pages`` pages with the strides of ``cache``, K and V in one page where they lie so.

    A backend may refuse pages whose K and V are apart, or read both through one pointer.
    """
    k, v = cache.k, cache.v
    behind = int(v.storage_offset()) - int(k.storage_offset())
    together = k.untyped_storage().data_ptr() == v.untyped_storage().data_ptr() and abs(behind) < k.stride(0)
    if not together:
        return replace(cache, k=_room(k, pages), v=_room(v, pages))
    first, second = max(0, -behind), max(0, behind)
    memory = k.new_zeros(max(first + _span(k, pages), second + _span(v, pages)))
    shapes = (pages, *k.shape[1:]), (pages, *v.shape[1:])
    return replace(
        cache,
        k=memory.as_strided(shapes[0], k.stride(), first),
        v=memory.as_strided(shapes[1], v.stride(), second),
    )


def _room(view: torch.Tensor, pages: int) -> torch.Tensor:
    """Return a zeroed tensor of ``pages`` pages with the strides of ``view``."""
    memory = torch.zeros(_span(view, pages), dtype=view.dtype, device=view.device)
    return memory.as_strided((pages, *view.shape[1:]), view.stride())


def _span(view: torch.Tensor, pages: int) -> int:
    """Return how many elements ``pages`` pages with the strides of ``view`` reach over."""
    shape = (pages, *view.shape[1:])
    return 1 + sum((int(size) - 1) * int(stride) for size, stride in zip(shape, view.stride(), strict=True))


def _cleared(tensor: torch.Tensor | None) -> torch.Tensor | None:
    return None if tensor is None else torch.zeros_like(tensor)


def _copy(tensor: torch.Tensor | None) -> torch.Tensor | None:
    return None if tensor is None else tensor.clone()


def capture(launch: Callable[[], str]) -> tuple[Callable[[], None], str]:
    """Warm ``launch`` up and capture it in a CUDA graph. Return a function that replays it, and the kernel's name."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UPS):
            launch()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kernel = launch()

    def replay() -> None:
        graph.replay()
        torch.cuda.synchronize()

    return replay, kernel


def replayed(
    trial: Trial, layer: int, capturing: Callable[[Callable[[], str]], tuple[Callable[[], None], str]]
) -> list[Failure]:
    """Capture a layer over a shorter batch; replay it over the trial's batch and the shorter one, and judge both."""
    long = trial.posed
    short = PosedCase(shorter(trial.case), long.device)
    static = own_memory(short.batch, like=long.batch)
    prepared = cast("Replayable", trial.prepare(static))
    base = trial.backend.promises.lse
    target = make_target(static, layer, lse=base is not None)
    with trial.surroundings.of_torch():
        replay, kernel = capturing(lambda: prepared.run(layer, target.out, target.lse))
    for posed, name in ((long, "longer"), (short, "shorter")):
        with trial.surroundings.of_torch():
            prepared.update(load(static, posed.batch))
        target.reset()
        replay()
        output = read_output(target, kernel, base, posed.oracle_device)
        what = f"captured over one batch and replayed over a {name} one"
        comparison = Comparison(Clause.CUDA_GRAPHS, CHECK_NAME, what)
        judged = (
            trial if posed is long else Trial(posed, trial.backend, trial.platform, surroundings=trial.surroundings)
        )
        judged.base(layer)
        failures = compare_all(judged, layer, output, comparison, bitwise=False)
        if failures:
            return failures
    return []


def _run(trial: Trial, layer: int) -> list[Failure]:
    return replayed(trial, layer, capture)


def _applies(trial: Trial, _layer: int) -> bool:
    return trial.case.mode in _CAPTURED and trial.posed.device.type == "cuda" and trial.backend.promises.cuda_graph


def _pools(case: Case) -> int:
    """Return 3: a shorter batch, its copy, and one with room for both."""
    return 3 if case.mode in _CAPTURED else 0


CHECK = Check(CHECK_NAME, (Clause.CUDA_GRAPHS,), _applies, _run, on_top=True, needs_gpu=True, pools=_pools)
