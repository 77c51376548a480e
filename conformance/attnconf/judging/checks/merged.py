"""Clause 17 in parts: a row's answers over some of its keys each, merged through their LSE, are the whole answer.

Parts are two ranges of keys, as of a prefix that many requests share, or the shards of context parallelism: keys by
token in turn, over one call that has all of them of each request, and some no key.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from attnconf.bounded import Bounded, is_within, merge_answers, rows_of, units_by_row
from attnconf.cases.inputs.batch import Batch, BatchRow
from attnconf.cases.inputs.pages import pages_needed
from attnconf.cases.inputs.poison import bits
from attnconf.cases.inputs.sending import sent
from attnconf.cases.inputs.storage import by_token
from attnconf.cases.recorded import NULL_PAGE
from attnconf.clauses import Clause
from attnconf.judging.checks import outlines
from attnconf.judging.checks.shards import MOST_REQUESTS, MOST_SHARDS, SHARDS
from attnconf.judging.checks.static_memory import room_for
from attnconf.judging.result import Failure
from attnconf.numerics import bounded_answers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnconf.cases.case import Case
    from attnconf.judging.execution import Output
    from attnconf.judging.trial import Trial
    from attnconf.oracle.problem import Problem

CHECK_NAME = outlines.CONSISTENCY.name


def mergeable(trial: Trial, layer: int) -> bool:
    """Return whether parts of a row's keys can be merged: with all keys in sight, no sink, and an LSE."""
    geometry = trial.case.layers[layer]
    return trial.backend.promises.lse is not None and geometry.kind == "full" and not geometry.sinks


def cut_of(case: Case, request: int) -> int:
    """Return the first key of the second range, at which a page begins; 0 where all keys lie in one page."""
    size = case.paging.page_size
    pages = (case.requests[request].kv_len - 1) // size
    return size * (1 + case.seed % pages) if pages > 0 else 0


def merged_ranges(trial: Trial, layer: int, request: int) -> Failure | None:
    """Run the last row over two ranges of keys, and merge the answers through their LSE."""
    spec = trial.case.requests[request]
    cut = cut_of(trial.case, request)
    if not mergeable(trial, layer) or not cut or trial.base_units(layer, request) > 1.0:
        return None
    last = spec.new_tokens - 1
    ranges = [(0, cut), (cut, spec.kv_len)]
    rows = [BatchRow(request, last, last + 1, stop, start) for start, stop in ranges]
    if not all(trial.supports_rows(layer, [row], "decode") for row in rows):
        return None
    outputs = [
        trial.run(layer, f"part {request} {index}", partial(trial.posed.batch.derive, [row], "decode"))
        for index, row in enumerate(rows)
    ]
    expected = _merged(trial, layer, [request], [slice(start, stop) for start, stop in ranges])
    (units,) = _units([(one, slice(0, 1)) for one in outputs], expected)
    what = f"keys 0 to {cut - 1} and {cut} to {spec.kv_len - 1}, merged through the LSE"
    return None if units <= 1.0 else _failure(layer, units, what)


def merged_shards(trial: Trial, layer: int, _request: int) -> Failure | None:
    """Run the last row of each request over the keys of each shard, and merge the answers.

    Shard s of S has the tokens t with t % S = s, as vLLM and sglang interleave them (decode context parallelism).
    """
    if not mergeable(trial, layer):
        return None
    requests = _sharded(trial, layer)
    count = _shards(trial.case, requests, empty=trial.backend.promises.empty_kv)
    requests = [one for one in requests if trial.backend.promises.empty_kv or trial.case.requests[one].kv_len >= count]
    rows = [BatchRow(one, *_last(trial.case, one), trial.case.requests[one].kv_len) for one in requests]
    if not rows or not trial.supports_rows(layer, rows * count, "decode"):
        return None
    batch = sharded(trial, layer, rows, count)
    output = trial.run_prepared(trial.prepare(batch), batch, 0)
    expected = _merged(trial, layer, requests, [slice(shard, None, count) for shard in reversed(range(count))])
    parts = [slice(first, first + len(rows)) for first in range(0, count * len(rows), len(rows))]
    for request, units in zip(requests, _units([(output, part) for part in parts], expected), strict=True):
        if not units <= 1.0:
            what = f"the keys of request {request} in {count} shards by token, merged through the LSE"
            failure = _failure(layer, units, what)
            emptied = _without_empty(output, batch.kv_lens)
            if max(_units([(emptied, part) for part in parts], expected)) <= 1.0:
                return replace(failure, clause=Clause.EMPTY_ROWS, summary=f"a row without a key in its shard: {what}")
            return failure
    return None


def _without_empty(output: Output, lengths: Sequence[int]) -> Output:
    """Return ``output`` with what clause 11 says of the rows whose request has none of ``lengths`` keys."""
    if output.lse is None:
        return output
    out, lse = output.out.clone(), output.lse.clone()
    for row, length in enumerate(lengths):
        if not length:
            out[row], lse[row] = 0.0, -math.inf
    return replace(output, out=out, lse=lse)


def _sharded(trial: Trial, layer: int) -> list[int]:
    """Return the requests with a row, of which the base run was right: the first ones where there are many."""
    by_request = zip(trial.case.requests, trial.all_base_units(layer), strict=True)
    right = [index for index, (one, units) in enumerate(by_request) if one.new_tokens and units <= 1.0]
    return right[:MOST_REQUESTS]


def _last(case: Case, request: int) -> tuple[int, int]:
    tokens = case.requests[request].new_tokens
    return tokens - 1, tokens


def _shards(case: Case, requests: Sequence[int], *, empty: bool) -> int:
    """Return the number of shards: where a short request would leave one without a key, often so many."""
    usual = SHARDS[case.seed % len(SHARDS)]
    shortest = min((case.requests[one].kv_len for one in requests), default=MOST_SHARDS)
    return shortest + 1 if empty and usual <= shortest < MOST_SHARDS and case.seed % 2 else usual


def sharded(trial: Trial, layer: int, rows: Sequence[BatchRow], count: int) -> Batch:
    """Return the batch of one layer and ``count`` shards: the last rows of requests, over pages of each shard's own.

    It has all rows over the last shard first, which may have no key of the first one. Dead slots have the contents of
    the null page.
    """
    whole, inputs = trial.posed.batch, trial.posed.batch.layers[layer]
    size, cache = whole.page_size, whole.caches[inputs.cache]
    held = [(row.request, np.arange(shard, row.kv_stop, count)) for shard in reversed(range(count)) for row in rows]
    pages = [pages_needed(len(tokens), size) for _, tokens in held]
    total = sum(pages)
    order = torch.randperm(total, generator=torch.Generator().manual_seed(trial.case.seed)).numpy() + 1 + NULL_PAGE
    tables = np.zeros((len(held), max([1, *pages])), dtype=np.int32)
    source = np.tile(NULL_PAGE * size + np.arange(size), (total + 1, 1))  # the slot from which each one is copied
    start = 0
    for (request, tokens), table, used in zip(held, tables, pages, strict=True):
        table[:used] = order[start : start + used]
        start += used
        ids, slots = trial.posed.layout.block_tables[request].numpy(), np.arange(len(tokens))
        source[table[slots // size], slots % size] = ids[tokens // size] * size + tokens % size
    lengths = tuple(len(tokens) for _, tokens in held)
    picked = [trial.posed.logical.q_starts[row.request] + row.q_start for row in rows] * count
    indptr, seq_lens, block_tables, queries, source_page, source_slot = sent(
        whole.device, np.arange(len(held) + 1), lengths, tables, picked, source // size, source % size
    )
    own = room_for(cache, total + 1)
    for memory, stored in zip(own.paged.values(), cache.paged.values(), strict=True):
        found = bits(by_token(stored, whole.kv_layout))[source_page, source_slot]
        bits(by_token(memory, whole.kv_layout)).copy_(found)
    owner = whole.layers[inputs.cache].geometry
    scales = {name: getattr(owner, name) for name in ("k_scale", "v_scale", "k_scales", "v_scales")}
    return replace(
        whole,
        mode="decode",
        qo_indptr=indptr,
        seq_lens=seq_lens,
        block_tables=block_tables,
        q_lens=(1,) * len(held),
        kv_lens=lengths,
        max_q_len=1,
        full_to_swa=None,
        row_spans=None,
        layers=(
            replace(
                inputs,
                geometry=inputs.geometry.model_copy(update=scales | {"kv_owner": None}),
                q=inputs.q[queries],
                cache=0,
            ),
        ),
        caches=(own,),
    )


def _merged(trial: Trial, layer: int, requests: Sequence[int], parts: Sequence[slice]) -> Bounded:
    """Return the merged answers of the oracle over ``parts`` of the keys of the last rows of ``requests``, a row each.

    All parts of all requests are answered at once. A part may have no key.
    """
    profile = trial.numerics(replace(trial.shape(layer), mode="decode"))
    wholes = [trial.posed.problem(layer, request) for request in requests]
    problems = [_over(whole, part) for part in parts for whole in wholes]
    answers, count = bounded_answers(problems, profile, trial.case.answer_dtype), len(requests)
    return merge_answers([rows_of(answers, slice(first, first + count)) for first in range(0, len(problems), count)])


def _over(whole: Problem, part: slice) -> Problem:
    """Return the question of the last row over some keys, all of which it sees, whatever its span."""
    k, v = whole.k[part], whole.v[part]
    positions = torch.arange(k.shape[0] - 1, k.shape[0])
    return replace(whole, q=whole.q[-1:], k=k, v=v, positions=positions, spans=())


def _units(parts: Sequence[tuple[Output, slice]], expected: Bounded) -> list[float]:
    """Return the error of each merged row, in units; ``parts`` are the rows that are merged, of an output each."""
    lses = torch.stack([one.lse[rows] for one, rows in parts if one.lse is not None]).double()
    shares = torch.softmax(lses, dim=0)[..., None]
    merged = (shares * torch.stack([one.out[rows] for one, rows in parts]).double()).sum(dim=0)
    if is_within(merged, None, expected):
        return [0.0] * len(merged)
    found: list[float] = units_by_row(merged, None, expected).tolist()
    return found


def _failure(layer: int, units: float, what: str) -> Failure:
    return Failure(clause=Clause.CONSISTENCY, check=CHECK_NAME, layer=layer, units=units, summary=what)
