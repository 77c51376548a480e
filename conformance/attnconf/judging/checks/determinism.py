"""Clauses 15 and 19: the same call gives the same bits, A, B, A included; larger host hints change nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from attnconf.cases.inputs.batch import BatchRow
from attnconf.judging.checks.agreement import Claim, compare_all
from attnconf.judging.checks.check import Check, always

if TYPE_CHECKING:
    from attnconf.cases.inputs.batch import Batch
    from attnconf.judging.result import Failure
    from attnconf.judging.trial import Trial


def _repeated(trial: Trial, layer: int) -> list[Failure]:
    """Run the other layers and another batch (the requests in reverse), then the same call again: A, B, A."""
    for other in trial.outputs:
        if other != layer:
            trial.run(other)
    rows = [
        BatchRow(index, 0, request.new_tokens, request.kv_len)
        for index, request in reversed(list(enumerate(trial.case.requests)))
        if request.new_tokens
    ]
    if trial.supports_rows(layer, rows, trial.case.mode):
        # A name of its own: the other batch must be prepared now, after the base run, and not by an earlier check.
        trial.run(layer, f"between, layer {layer}", lambda: trial.question.batch.derive(rows, trial.case.mode))
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
