"""Clause 17: decode is the last row of extend; chunks make the whole; so do a cut table, and parts (``merged.py``)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from attnconf.cases.inputs.batch import BatchRow
from attnconf.cases.sight import follows_tree
from attnconf.clauses import Clause
from attnconf.judging.account import account_of, is_right_in_another_shape
from attnconf.judging.checks import outlines
from attnconf.judging.checks.agreement import Comparison, against_oracle
from attnconf.judging.checks.merged import CHECK_NAME, cut_of, merged_ranges, merged_shards
from attnconf.judging.rerun import Rerun

if TYPE_CHECKING:
    from attnconf.cases.case import Case, Mode
    from attnconf.cases.request import Request
    from attnconf.judging.result import Failure
    from attnconf.judging.trial import Trial


def _run(trial: Trial, layer: int) -> list[Failure]:
    request = _chosen_request(trial.case, layer)
    parts = (_last_row, _as_extend, _chunked, _cut, _ranges, _shards)
    return next((failures for part in parts if (failures := part(trial, layer, request))), [])


def _asked_alone(trial: Trial, failure: Failure | None, case: Case) -> list[Failure]:
    """Return a failure of a part, behind that of the same question as a ``case`` of its own, where that is explained.

    Whose decode ignores the window is inconsistent, since it breaks the clause of the window.
    """
    if failure is None:
        return []
    own = account_of(trial, case, failure.layer, CHECK_NAME) if trial.explains else None
    if own is not None and own.diagnosis:
        return [replace(own, summary=f"{failure.summary}: {own.summary}"), failure]
    if own is not None and is_right_in_another_shape(trial, case, failure.layer):
        what = f"{failure.summary}: right in a batch of another shape, so something is kept for calls of this one"
        return [replace(failure, clause=Clause.DETERMINISM, summary=what)]
    return [failure]


def _alone(case: Case, request: Request, mode: Mode) -> Case:
    """Return ``case`` with one request, in ``mode``."""
    own = request.model_copy(update={"shares_with": None, "shared_pages": 0})
    return case.model_copy(update={"requests": (own,), "mode": mode, "padding_rows": 0, "padding_kv_len": 0})


def _ranges(trial: Trial, layer: int, request: int) -> list[Failure]:
    """Merge two ranges of keys; each is asked as a request of so many keys, too."""
    failure = merged_ranges(trial, layer, request)
    if failure is None:
        return []
    spec, cut = trial.case.requests[request], cut_of(trial.case, request)
    for length in (cut, spec.kv_len - cut):
        found = _asked_alone(trial, failure, _alone(trial.case, spec.resized(length - 1, 1), "decode"))
        if len(found) > 1:
            return found
    return [failure]


def _shards(trial: Trial, layer: int, request: int) -> list[Failure]:
    failure = merged_shards(trial, layer, request)
    return [] if failure is None else [failure]


def _chosen_request(case: Case, layer: int) -> int:
    """Return a request with query tokens, if possible one in which the layer's window or chunk masks keys.

    The drafts of a tree can be asked for in no other way.
    """
    queried = [index for index, request in enumerate(case.requests) if request.new_tokens and not request.tree]
    masked = [index for index in queried if case.layers[layer].first_seen(case.requests[index].kv_len - 1) > 0]
    chosen = masked or queried
    return chosen[case.seed % len(chosen)]


def _last_row(trial: Trial, layer: int, request: int) -> list[Failure]:
    """Run the last new token through the decode path."""
    spec = trial.case.requests[request]
    last = spec.new_tokens - 1
    row = BatchRow(request, last, spec.new_tokens, spec.kv_len)
    if trial.case.mode == "decode" or not _supported(trial, layer, "decode", row):
        return []
    output = trial.run(layer, f"last row {request}", lambda: trial.posed.batch.derive([row], "decode"))
    rerun = Rerun(layer, request, output, slice(0, 1), slice(last, spec.new_tokens), "decode")
    failure = against_oracle(trial, rerun, _comparison("the last row, asked for as a decode"))
    return _asked_alone(trial, failure, _alone(trial.case, spec.resized(spec.kv_len - 1, 1), "decode"))


def _as_extend(trial: Trial, layer: int, request: int) -> list[Failure]:
    """Run a decode or verify row through the extend path."""
    spec = trial.case.requests[request]
    row = BatchRow(request, 0, spec.new_tokens, spec.kv_len)
    if trial.case.mode not in {"decode", "verify"} or not _supported(trial, layer, "extend", row):
        return []
    output = trial.run(layer, f"as extend {request}", lambda: trial.posed.batch.derive([row], "extend"))
    rerun = Rerun(layer, request, output, slice(0, spec.new_tokens), mode="extend")
    comparison = _comparison(f"the rows of mode {trial.case.mode}, asked for as an extend")
    return _asked_alone(trial, against_oracle(trial, rerun, comparison), _alone(trial.case, spec, "extend"))


def _chunked(trial: Trial, layer: int, request: int) -> list[Failure]:
    """Run the new tokens in two calls. The first one must not see the later tokens, although the cache has them."""
    spec = trial.case.requests[request]
    cuts = _cuts(trial.case, layer, request)
    if not cuts:
        return []
    cut = cuts[trial.case.seed % len(cuts)]
    chunks = [
        BatchRow(request, 0, cut, spec.prefix_len + cut),
        BatchRow(request, cut, spec.new_tokens, spec.kv_len),
    ]
    if not _supported(trial, layer, "extend", *chunks):
        return []
    for index, chunk in enumerate(chunks):
        derived = partial(trial.posed.batch.derive, [chunk], "extend")
        output = trial.run(layer, f"chunk {request} {index} at {cut}", derived)
        rows = slice(0, chunk.q_stop - chunk.q_start)
        rerun = Rerun(layer, request, output, rows, slice(chunk.q_start, chunk.q_stop), "extend")
        comparison = _comparison(f"chunk {index + 1} of 2, rows {chunk.q_start} to {chunk.q_stop - 1}")
        failure = against_oracle(trial, rerun, comparison)
        if failure is not None:
            tokens = chunk.q_stop - chunk.q_start
            part = spec.resized(chunk.kv_stop - tokens, tokens)
            return _asked_alone(trial, failure, _alone(trial.case, part, "extend"))
    return []


def _cuts(case: Case, layer: int, request: int) -> list[int]:
    """Return the new tokens before which a chunk may end: not where rows before it would then see less."""
    spec = case.requests[request]
    if case.layers[layer].bidirectional:
        return []
    cuts = range(1, spec.new_tokens)
    spans = spec.spans if case.layers[layer].spans else ()
    return [cut for cut in cuts if not any(begin < spec.prefix_len + cut < end for begin, end in spans)]


def _cut(trial: Trial, layer: int, request: int) -> list[Failure]:
    """Run the rows of a windowed layer over a table that begins at the first page in sight, as for a shorter request.

    sglang's Triton and FlashInfer backends cut the tables of sliding layers so (``kv_start_idx``), by token where a
    page is one.
    """
    spec, geometry, case = trial.case.requests[request], trial.case.layers[layer], trial.case
    size = case.paging.page_size
    start = geometry.first_seen(spec.prefix_len) // size * size
    if geometry.window_left < 0 or start == 0:
        return []
    row = BatchRow(request, 0, spec.new_tokens, spec.kv_len, start)
    mode: Mode = "extend" if case.mode == "mixed" else case.mode  # one request is no mixed batch
    if not _supported(trial, layer, mode, row):
        return []
    output = trial.run(layer, f"cut table {request} at {start}", lambda: trial.posed.batch.derive([row], mode))
    rerun = Rerun(layer, request, output, slice(0, spec.new_tokens), mode=mode)
    failure = against_oracle(
        trial, rerun, _comparison(f"over a table that begins at token {start}, as the window does")
    )
    shorter = spec.resized(spec.prefix_len - start, spec.new_tokens)
    return _asked_alone(trial, failure, _alone(case, shorter, mode))


def _comparison(what: str) -> Comparison:
    return Comparison(Clause.CONSISTENCY, CHECK_NAME, what)


def _supported(trial: Trial, layer: int, mode: Mode, *rows: BatchRow) -> bool:
    return all(trial.supports_rows(layer, [row], mode) for row in rows)


def _applies(trial: Trial, _layer: int) -> bool:
    return not follows_tree(trial.case.requests)


CHECK = outlines.CONSISTENCY.check(_applies, _run)
