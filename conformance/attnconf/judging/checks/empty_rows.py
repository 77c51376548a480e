"""Clause 11: a row without keys yields exactly zero and LSE -inf; a request without query tokens yields no row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from attnconf.clauses import Clause
from attnconf.judging.checks import outlines
from attnconf.judging.result import Failure

if TYPE_CHECKING:
    from attnconf.judging.trial import Trial

CHECK_NAME = outlines.EMPTY_ROWS.name


def _applies(trial: Trial, _layer: int) -> bool:
    return trial.case.padding_rows > 0 and trial.case.padding_kv_len == 0


def _run(trial: Trial, layer: int) -> list[Failure]:
    output = trial.base(layer)
    padding = slice(trial.posed.logical.q_starts[-1], trial.posed.batch.num_rows)
    rows = output.out[padding]
    failures = []
    if not torch.equal(rows, torch.zeros_like(rows)):
        failures.append(_failure(layer, "a row with kv_len 0 is not all zeros"))
    sinks = trial.case.layers[layer].sinks
    if output.lse is not None and not sinks and not bool(torch.isneginf(output.lse[padding]).all()):
        failures.append(_failure(layer, "the LSE of a row with kv_len 0 is not -inf"))
    return failures


def _failure(layer: int, summary: str) -> Failure:
    return Failure(clause=Clause.EMPTY_ROWS, check=CHECK_NAME, layer=layer, summary=summary)


CHECK = outlines.EMPTY_ROWS.check(_applies, _run)
