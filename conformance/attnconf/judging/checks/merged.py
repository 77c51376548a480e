"""Clause 17 in parts: a row's answers over some of its keys each, merged through their LSE, are the whole answer.

Parts are two ranges of keys, as of a prefix that many requests share, or the shards of context parallelism: keys by
token in turn, over calls of which each has all requests, and some of them no key.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from attnconf.cases.inputs.batch import Batch, BatchRow
from attnconf.cases.inputs.poison import bits
from attnconf.cases.inputs.storage import by_token
from attnconf.cases.recorded import NULL_PAGE
from attnconf.cases.shape import kernel_shape
from attnconf.clauses import Clause
from attnconf.judging.checks.static_memory import room_for
from attnconf.judging.result import Failure
from attnconf.numerics import Bounded, bounded_answer, merge_answers, out_units

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnconf.cases.case import Case
    from attnconf.judging.execution import Output
    from attnconf.judging.trial import Trial
    from attnconf.oracle import Problem

CHECK_NAME = "consistency"

SHARDS = (2, 3, 4, 8)
"""Degrees of context parallelism; some cases get one by which a request has fewer keys than there are shards."""

_MOST_SHARDS = 16
_MOST_REQUESTS = 64
"""Requests of a sharded batch: more of them repeat each other."""


def mergeable(trial: Trial, layer: int) -> bool:
    """Return whether parts of a row's keys can be merged: with all keys in sight, no sink, and an LSE."""
    geometry = trial.case.layers[layer]
    return trial.backend.promises.lse is not None and geometry.kind == "full" and not geometry.sinks


def merged_ranges(trial: Trial, layer: int, request: int) -> Failure | None:
    """Run the last row over two ranges of keys, and merge the answers through their LSE."""
    spec = trial.case.requests[request]
    size = trial.case.paging.page_size
    pages = (spec.kv_len - 1) // size
    if not mergeable(trial, layer) or pages < 1 or trial.base_units(layer, request) > 1.0:
        return None
    cut = size * (1 + trial.case.seed % pages)
    last = spec.new_tokens - 1
    ranges = [(0, cut), (cut, spec.kv_len)]
    rows = [BatchRow(request, last, last + 1, stop, start) for start, stop in ranges]
    if not all(trial.supports_rows(layer, [row], "decode") for row in rows):
        return None
    outputs = [
        trial.run(layer, f"part {request} {index}", partial(trial.posed.batch.derive, [row], "decode"))
        for index, row in enumerate(rows)
    ]
    expected = _merged(trial, layer, request, [slice(start, stop) for start, stop in ranges])
    units = _units(outputs, [0, 0], expected)
    what = f"keys 0 to {cut - 1} and {cut} to {spec.kv_len - 1}, merged through the LSE"
    return None if units <= 1.0 else _failure(layer, units, what)


def merged_shards(trial: Trial, layer: int, _request: int) -> Failure | None:
    """Run the last row of each request over the keys of one shard after the other, and merge the answers.

    Shard s of S has the tokens t with t % S = s, as vLLM and sglang interleave them (decode context parallelism).
    """
    if not mergeable(trial, layer):
        return None
    requests = _sharded(trial, layer)
    count = _shards(trial.case, requests, empty=trial.backend.promises.empty_kv)
    requests = [one for one in requests if trial.backend.promises.empty_kv or trial.case.requests[one].kv_len >= count]
    rows = [BatchRow(one, *_last(trial.case, one), trial.case.requests[one].kv_len) for one in requests]
    if not rows or not trial.supports_rows(layer, rows, "decode"):
        return None
    outputs: list[Output] = []
    for shard in range(count):
        batch = shard_of(trial, layer, rows, shard, count)
        outputs.append(trial.run_prepared(trial.prepare(batch), batch, 0))
    for place, request in enumerate(requests):
        held = [slice(shard, None, count) for shard in range(count) if shard < trial.case.requests[request].kv_len]
        units = _units(outputs, [place] * count, _merged(trial, layer, request, held))
        if not units <= 1.0:
            what = f"the keys of request {request} in {count} shards by token, merged through the LSE"
            return _failure(layer, units, what)
    return None


def _sharded(trial: Trial, layer: int) -> list[int]:
    """Return the requests with a row, of which the base run was right, small ones first where there are many."""
    queried = [index for index, one in enumerate(trial.case.requests) if one.new_tokens]
    right = [index for index in queried if trial.base_units(layer, index) <= 1.0]
    return right[:_MOST_REQUESTS]


def _last(case: Case, request: int) -> tuple[int, int]:
    tokens = case.requests[request].new_tokens
    return tokens - 1, tokens


def _shards(case: Case, requests: Sequence[int], *, empty: bool) -> int:
    """Return the number of shards: where a short request would leave one without a key, often so many."""
    usual = SHARDS[case.seed % len(SHARDS)]
    shortest = min((case.requests[one].kv_len for one in requests), default=_MOST_SHARDS)
    return shortest + 1 if empty and usual <= shortest < _MOST_SHARDS and case.seed % 2 else usual


def shard_of(trial: Trial, layer: int, rows: Sequence[BatchRow], shard: int, count: int) -> Batch:
    """Return the batch of one layer and one shard: the last rows of requests, over pages of the shard's own.

    Dead slots have the contents of the null page.
    """
    whole = trial.posed.batch
    derived = whole.derive(rows, "decode")
    inputs = whole.layers[layer]
    size, cache = whole.page_size, whole.caches[inputs.cache]
    held = [torch.tensor(range(shard, row.kv_stop, count), dtype=torch.int64) for row in rows]
    pages = [-(-len(tokens) // size) for tokens in held]
    total = sum(pages)
    order = torch.randperm(total, generator=torch.Generator().manual_seed(trial.case.seed + shard)) + 1 + NULL_PAGE
    own = room_for(cache, total + 1)
    tables = torch.zeros((len(rows), max([1, *pages])), dtype=torch.int32)
    for memory, source in ((own.k, cache.k), (own.v, cache.v)):
        bits(memory)[:] = bits(source)[NULL_PAGE]
    start = 0
    for place, (row, tokens, used) in enumerate(zip(rows, held, pages, strict=True)):
        tables[place, :used] = order[start : start + used].to(torch.int32)
        start += used
        there = tables[place].long().to(whole.device)
        ids, tokens_on = whole.block_tables[row.request].long(), tokens.to(whole.device)
        target = torch.arange(len(tokens), device=whole.device)
        for memory, source in ((own.k, cache.k), (own.v, cache.v)):
            found = bits(by_token(source, whole.kv_layout))[ids[tokens_on // size], tokens_on % size]
            bits(by_token(memory, whole.kv_layout))[there[target // size], target % size] = found
    owner = whole.layers[inputs.cache].geometry
    stored = {"kv_owner": None, "k_scale": owner.k_scale, "v_scale": owner.v_scale}
    lengths = tuple(len(tokens) for tokens in held)
    return replace(
        derived,
        seq_lens=torch.tensor(lengths, dtype=torch.int32).to(whole.device),
        kv_lens=lengths,
        block_tables=tables.to(whole.device),
        full_to_swa=None,
        row_spans=None,
        layers=(
            replace(inputs, geometry=inputs.geometry.model_copy(update=stored), q=derived.layers[layer].q, cache=0),
        ),
        caches=(own,),
    )


def _merged(trial: Trial, layer: int, request: int, parts: Sequence[slice]) -> Bounded:
    """Return the merged answers of the oracle over ``parts`` of the keys of the request's last row."""
    whole = trial.posed.scene(layer, request).problem
    profile = trial.numerics(replace(kernel_shape(trial.case, layer), mode="decode"))
    dtype = trial.case.answer_dtype
    return merge_answers([bounded_answer(_over(whole, part), profile, dtype) for part in parts])


def _over(whole: Problem, part: slice) -> Problem:
    """Return the question of the last row over some keys, all of which it sees, whatever its span."""
    k, v = whole.k[part], whole.v[part]
    positions = torch.tensor([k.shape[0] - 1])
    return replace(whole, q=whole.q[-1:], k=k, v=v, positions=positions, spans=())


def _units(outputs: Sequence[Output], rows: Sequence[int], expected: Bounded) -> float:
    """Return the error of a row's merged answers, in units; ``rows`` is its place in each of ``outputs``."""
    lses = torch.stack([one.lse[row] for one, row in zip(outputs, rows, strict=True) if one.lse is not None]).double()
    shares = torch.softmax(lses, dim=0)[..., None]
    parts = torch.stack([one.out[row] for one, row in zip(outputs, rows, strict=True)]).double()
    return float(out_units((shares * parts).sum(dim=0)[None], expected).max())


def _failure(layer: int, units: float, what: str) -> Failure:
    return Failure(clause=Clause.CONSISTENCY, check=CHECK_NAME, layer=layer, units=units, summary=what)
