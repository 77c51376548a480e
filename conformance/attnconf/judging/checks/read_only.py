"""Clause 10: a run writes all of its output and its LSE, and changes nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from attnconf.cases.case import Case
from attnconf.cases.inputs.target import sentinels
from attnconf.clauses import Clause
from attnconf.judging.checks import outlines
from attnconf.judging.checks.check import always
from attnconf.judging.removals import with_query_tokens
from attnconf.judging.result import Failure

if TYPE_CHECKING:
    from attnconf.judging.execution import Output
    from attnconf.judging.trial import Trial

OUTPUTS_NAME = outlines.OUTPUTS.name
INPUTS_NAME = outlines.INPUTS.name


def _run(trial: Trial, layer: int) -> list[Failure]:
    output = trial.base(layer)
    failures = []
    if not output.guards_intact:
        summary = "memory around the output, or a row of it behind the last request's, was written"
        failures.append(_failure(layer, summary, OUTPUTS_NAME))
    if output.unwritten:
        summary = f"{output.unwritten} elements of the output or the LSE were not written"
        failures.append(_failure(layer, summary, OUTPUTS_NAME))
    if output.unwritten and (_of_empty_rows(trial, output) or _is_written_without_empty(trial, layer)):
        return [replace(failure, clause=Clause.EMPTY_ROWS) for failure in failures]
    return failures


def _of_empty_rows(trial: Trial, output: Output) -> bool:
    """Return whether all that was not written belongs to rows over no key."""
    if trial.case.padding_kv_len:
        return False
    padding = slice(trial.posed.logical.q_starts[-1], trial.posed.batch.num_rows)
    parts = [output.out[padding], *([] if output.lse is None else [output.lse[padding]])]
    return sum(int(sentinels(part)) for part in parts) == output.unwritten


def _is_written_without_empty(trial: Trial, layer: int) -> bool:
    """Return whether the output is written, and no more, as soon as no request is without query tokens."""
    if not trial.explains or all(request.new_tokens for request in trial.case.requests):
        return False
    try:
        case = Case.model_validate(with_query_tokens(trial.case, layer, 0).model_dump(by_alias=True))
        output = trial.afresh(case).base(layer) if trial.supports(case, layer) else None
    except (Exception, SystemExit):  # noqa: BLE001 - a backend may raise anything, and the case may need its requests
        return False
    return output is not None and output.guards_intact and not output.unwritten


def _inputs(trial: Trial, layer: int) -> list[Failure]:
    """Compare the batch with its state before any layer ran; if it changed, find the layers that change it.

    What preparing changes is no input any more when a layer runs, even if the run puts it back.
    """
    if trial.changed_by_prepare is not None and layer == min(trial.answered):
        return [_failure(layer, f"preparing the batch changed its input {trial.changed_by_prepare}")]
    name = trial.changed_input()
    if name is None:
        return []
    alone = _changed_by(trial, layer)
    if alone is not None:
        return [_failure(layer, f"the run changed its input {alone}")]
    if layer == min(trial.answered) and not any(_changed_by(trial, other) for other in trial.answered):
        return [_failure(layer, f"the runs of this case changed its input {name}")]
    return []


def _changed_by(trial: Trial, layer: int) -> str | None:
    """Return the input that preparing a fresh batch and running ``layer`` alone changes, or None."""
    batch = trial.posed.fresh_batch()
    before = [whole.clone() for _, whole in batch.memory()]
    with trial.surroundings.of_torch():
        prepared = trial.backend.prepare(batch)
    trial.run_prepared(prepared, batch, layer)
    pairs = zip(batch.memory(), before, strict=True)
    return next((name for (name, now), copy in pairs if not torch.equal(now, copy)), None)


def _failure(layer: int, summary: str, check: str = INPUTS_NAME) -> Failure:
    return Failure(clause=Clause.READ_ONLY, check=check, layer=layer, summary=summary)


OUTPUTS = outlines.OUTPUTS.check(always, _run)
INPUTS = outlines.INPUTS.check(always, _inputs)
