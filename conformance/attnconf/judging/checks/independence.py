"""Clause 12: a request's rows do not depend on the rest of the batch; identical requests give identical rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.cases.inputs.batch import BatchRow
from attnconf.clauses import Clause
from attnconf.judging.checks import outlines
from attnconf.judging.checks.agreement import Comparison, compare
from attnconf.judging.checks.check import always
from attnconf.judging.execution import same_bits
from attnconf.judging.rerun import Rerun
from attnconf.judging.result import Failure

if TYPE_CHECKING:
    from attnconf.judging.trial import Trial

CHECK_NAME = outlines.INDEPENDENCE.name


def _run(trial: Trial, layer: int) -> list[Failure]:
    """Run one request alone, then twice in one batch after another request: at an odd and at an even row."""
    queried = [index for index, request in enumerate(trial.case.requests) if request.new_tokens]
    request = queried[trial.case.seed % len(queried)]
    spec = trial.case.requests[request]
    row = BatchRow(request, 0, spec.new_tokens, spec.kv_len)
    other = queried[(trial.case.seed + 1) % len(queried)]
    neighbour = BatchRow(other, 0, trial.case.requests[other].new_tokens, trial.case.requests[other].kv_len)
    base = trial.posed.batch
    promises = trial.backend.promises
    bitwise = promises.batch_invariant and promises.deterministic
    if not trial.supports_rows(layer, [row], trial.case.mode):
        return []
    alone = trial.run(layer, "alone", lambda: base.derive([row], trial.case.mode))
    comparison = Comparison(Clause.INDEPENDENCE, CHECK_NAME, f"request {request} alone in the batch")
    rerun = Rerun(layer, request, alone, slice(0, spec.new_tokens))
    failure = compare(trial, rerun, comparison, bitwise=bitwise)
    if failure is not None:
        return [failure]
    if not trial.supports_rows(layer, [neighbour, row, row], trial.case.mode):
        return []
    twice = trial.run(layer, "twice", lambda: base.derive([neighbour, row, row], trial.case.mode))
    count, start = spec.new_tokens, neighbour.q_stop
    first, second = slice(start, start + count), slice(start + count, start + 2 * count)
    comparison = Comparison(
        Clause.INDEPENDENCE, CHECK_NAME, f"request {request} twice in the batch, behind request {other}"
    )
    failure = compare(trial, Rerun(layer, request, twice, second), comparison, bitwise=bitwise)
    if failure is None and bitwise and not same_bits(twice.out[first], twice.out[second]):
        summary = f"{comparison.what}: its two copies differ"
        failure = Failure(clause=Clause.INDEPENDENCE, check=CHECK_NAME, layer=layer, summary=summary)
    return [] if failure is None else [failure]


CHECK = outlines.INDEPENDENCE.check(always, _run)
