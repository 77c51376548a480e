"""Clause 12: a request's rows do not depend on who else is in the batch; identical requests give identical rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.cases.inputs.batch import BatchRow
from attnconf.judging.checks.agreement import Claim, compare
from attnconf.judging.checks.check import Check, always
from attnconf.judging.execution import same_bits
from attnconf.judging.result import Failure

if TYPE_CHECKING:
    from attnconf.judging.trial import Trial


def _run(trial: Trial, layer: int) -> list[Failure]:
    """Run one request alone, then twice in one batch behind another: at an odd and at an even row."""
    asked = [index for index, request in enumerate(trial.case.requests) if request.new_tokens]
    request = asked[trial.case.seed % len(asked)]
    spec = trial.case.requests[request]
    row = BatchRow(request, 0, spec.new_tokens, spec.kv_len)
    other = asked[(trial.case.seed + 1) % len(asked)]
    neighbour = BatchRow(other, 0, trial.case.requests[other].new_tokens, trial.case.requests[other].kv_len)
    base = trial.question.batch
    promises = trial.backend.promises
    bitwise = promises.batch_invariant and promises.deterministic
    if not trial.supports_rows(layer, [row], trial.case.mode):
        return []
    alone = trial.run(layer, "alone", lambda: base.derive([row], trial.case.mode))
    claim = Claim(12, "independence", f"request {request} alone in the batch")
    failure = compare(trial, layer, request, alone, slice(0, spec.new_tokens), claim, bitwise=bitwise)
    if failure is not None:
        return [failure]
    if not trial.supports_rows(layer, [row, neighbour], trial.case.mode):
        return []
    twice = trial.run(layer, "twice", lambda: base.derive([neighbour, row, row], trial.case.mode))
    count, start = spec.new_tokens, neighbour.q_stop
    first, second = slice(start, start + count), slice(start + count, start + 2 * count)
    claim = Claim(12, "independence", f"request {request} twice in the batch, behind request {other}")
    failure = compare(trial, layer, request, twice, second, claim, bitwise=bitwise)
    if failure is None and bitwise and not same_bits(twice.out[first], twice.out[second]):
        failure = Failure(clause=12, check="independence", layer=layer, summary=f"{claim.what}: its two copies differ")
    return [] if failure is None else [failure]


CHECK = Check("independence", (12,), always, _run)
