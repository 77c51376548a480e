"""Clauses 15 and 19: the same call gives the same bits, A, B, A included; larger host hints change nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from attnconf.batch import BatchRow
from attnconf.checks.agreement import Claim, compare_all
from attnconf.checks.check import Check, always

if TYPE_CHECKING:
    from attnconf.batch import Batch
    from attnconf.result import Failure
    from attnconf.trial import Trial


def _repeated(trial: Trial, layer: int) -> list[Failure]:
    """Run the other layers and another batch (one request of this one), then the same call again: A, B, A."""
    for other in trial.outputs:
        if other != layer:
            trial.run(other)
    asked = [index for index, request in enumerate(trial.case.requests) if request.new_tokens]
    request = asked[trial.case.seed % len(asked)]
    spec = trial.case.requests[request]
    row = BatchRow(request, 0, spec.new_tokens, spec.kv_len)
    if trial.supports_rows(layer, [row], trial.case.mode):
        trial.run(layer, "alone", lambda: trial.question.batch.derive([row], trial.case.mode))
    output = trial.run(layer)
    claim = Claim(15, "repeated", "the same call again, after other layers and another batch")
    return compare_all(trial, layer, output, claim, bitwise=trial.backend.promises.deterministic)


def _hinted(trial: Trial, layer: int) -> list[Failure]:
    def build() -> Batch:
        batch = trial.question.batch
        query_hint = batch.max_q_len + 9 if trial.case.mode in {"extend", "mixed"} else batch.max_q_len
        return replace(batch, max_seq_len=2 * batch.max_seq_len + 100, max_q_len=query_hint)

    output = trial.run(layer, "host_hints", build)
    promises = trial.backend.promises
    claim = Claim(19, "host_hints", "larger max_seq_len and max_q_len")
    return compare_all(trial, layer, output, claim, bitwise=promises.hint_invariant and promises.deterministic)


REPEATED = Check("repeated", (15,), always, _repeated)
HOST_HINTS = Check("host_hints", (19,), always, _hinted)
