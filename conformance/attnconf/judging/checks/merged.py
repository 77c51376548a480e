"""Clause 17 in parts: a row's answers over some of its keys each, merged through their LSE, are the whole answer.

Parts are two ranges of keys, as of a prefix that many requests share, or the shards of context parallelism: keys by
token in turn, over calls of which each has all requests, and some of them no key.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from attnconf.cases.inputs.batch import Batch, BatchRow
from attnconf.cases.inputs.poison import bits
from attnconf.cases.inputs.storage import by_token
from attnconf.cases.recorded import NULL_PAGE
from attnconf.cases.shape import kernel_shape
from attnconf.clauses import Clause
from attnconf.judging.checks.static_memory import room_for
from attnconf.judging.result import Failure
from attnconf.numerics import Bounded, bounded_answers, merge_answers, rows_of, units_by_row

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
    (units,) = _units(outputs, _merged(trial, layer, [request], [slice(start, stop) for start, stop in ranges]))
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
    expected = _merged(trial, layer, requests, [slice(shard, None, count) for shard in range(count)])
    for request, units in zip(requests, _units(outputs, expected), strict=True):
        if not units <= 1.0:
            what = f"the keys of request {request} in {count} shards by token, merged through the LSE"
            return _failure(layer, units, what)
    return None


def _sharded(trial: Trial, layer: int) -> list[int]:
    """Return the requests with a row, of which the base run was right: the first ones where there are many."""
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
    held = [np.arange(shard, row.kv_stop, count) for row in rows]
    pages = [-(-len(tokens) // size) for tokens in held]
    total = sum(pages)
    order = torch.randperm(total, generator=torch.Generator().manual_seed(trial.case.seed + shard)) + 1 + NULL_PAGE
    own = room_for(cache, total + 1)
    tables = np.zeros((len(rows), max([1, *pages])), dtype=np.int32)
    copied = []
    start = 0
    for place, (row, tokens, used) in enumerate(zip(rows, held, pages, strict=True)):
        tables[place, :used] = order[start : start + used]
        start += used
        ids, slots = trial.posed.layout.block_tables[row.request].numpy(), np.arange(len(tokens))
        copied.append(np.stack([ids[tokens // size], tokens % size, tables[place, slots // size], slots % size]))
    moved = torch.from_numpy(np.concatenate(copied, axis=1)).to(whole.device, non_blocking=True)
    source_page, source_slot, page, slot = moved
    for memory, source in ((own.k, cache.k), (own.v, cache.v)):
        bits(memory)[:] = bits(source)[NULL_PAGE]
        found = bits(by_token(source, whole.kv_layout))[source_page, source_slot]
        bits(by_token(memory, whole.kv_layout))[page, slot] = found
    owner = whole.layers[inputs.cache].geometry
    stored = {name: getattr(owner, name) for name in ("k_scale", "v_scale", "k_scales", "v_scales")}
    lengths = tuple(len(tokens) for tokens in held)
    return replace(
        derived,
        seq_lens=torch.tensor(lengths, dtype=torch.int32).to(whole.device),
        kv_lens=lengths,
        block_tables=torch.from_numpy(tables).to(whole.device),
        full_to_swa=None,
        row_spans=None,
        layers=(
            replace(
                inputs,
                geometry=inputs.geometry.model_copy(update=stored | {"kv_owner": None}),
                q=derived.layers[layer].q,
                cache=0,
            ),
        ),
        caches=(own,),
    )


def _merged(trial: Trial, layer: int, requests: Sequence[int], parts: Sequence[slice]) -> Bounded:
    """Return the merged answers of the oracle over ``parts`` of the keys of the last rows of ``requests``, a row each.

    All parts of all requests are answered at once. A part may have no key.
    """
    profile = trial.numerics(replace(kernel_shape(trial.case, layer), mode="decode"))
    wholes = [trial.posed.problem(layer, request) for request in requests]
    problems = [_over(whole, part) for part in parts for whole in wholes]
    answers, count = bounded_answers(problems, profile, trial.case.answer_dtype), len(requests)
    return merge_answers([rows_of(answers, slice(first, first + count)) for first in range(0, len(problems), count)])


def _over(whole: Problem, part: slice) -> Problem:
    """Return the question of the last row over some keys, all of which it sees, whatever its span."""
    k, v = whole.k[part], whole.v[part]
    positions = torch.tensor([k.shape[0] - 1])
    return replace(whole, q=whole.q[-1:], k=k, v=v, positions=positions, spans=())


def _units(outputs: Sequence[Output], expected: Bounded) -> list[float]:
    """Return the error of each merged row, in units; the first rows of ``outputs`` are its parts."""
    count = expected.answer.out.shape[0]
    lses = torch.stack([one.lse[:count] for one in outputs if one.lse is not None]).double()
    shares = torch.softmax(lses, dim=0)[..., None]
    merged = (shares * torch.stack([one.out[:count] for one in outputs]).double()).sum(dim=0)
    found: list[float] = units_by_row(merged, None, expected).tolist()
    return found


def _failure(layer: int, units: float, what: str) -> Failure:
    return Failure(clause=Clause.CONSISTENCY, check=CHECK_NAME, layer=layer, units=units, summary=what)
