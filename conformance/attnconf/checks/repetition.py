"""Clauses 15 and 19: the same call gives the same bits, A, B, A included; larger host hints change nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from attnconf.checks.agreement import Claim, compare_all
from attnconf.checks.check import Check, always

if TYPE_CHECKING:
    from attnconf.batch import Batch
    from attnconf.result import Failure
    from attnconf.trial import Trial


def _repeated(trial: Trial, layer: int) -> list[Failure]:
    others = [other for other in trial.outputs if other != layer]
    for other in others:
        trial.run(other)
    output = trial.run(layer)
    claim = Claim(15, "repeated", "the same call after other layers" if others else "the same call again")
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
