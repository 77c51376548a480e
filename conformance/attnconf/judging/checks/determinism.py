"""Clauses 15 and 19: the same call gives the same bits, over any scratch memory; larger host hints change nothing."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from attnconf.backends.protocol import Scratched
from attnconf.cases.inputs.batch import BatchRow
from attnconf.clauses import Clause
from attnconf.judging.checks import outlines
from attnconf.judging.checks.agreement import Comparison, compare_all
from attnconf.judging.checks.check import always
from attnconf.judging.controls import behind_what_is_plain
from attnconf.judging.result import Failure
from attnconf.judging.trial import BASE

if TYPE_CHECKING:
    from attnconf.backends.protocol import Workspace
    from attnconf.judging.execution import Output
    from attnconf.judging.trial import Trial

DIRT = 0xFF
"""A byte whose repetition is NaN in floating-point types, and -1 or the largest number in integer types."""

_MORE_QUERIES, _MORE_KEYS = 9, 100
"""Added to the host hints, so that they exceed the true maxima by more than any rounding."""

_CONTEXTS = (0, 131_072, 2**20)
"""Context lengths of models, one of which a case's larger hint may be: engines pass those."""


def _repeated(trial: Trial, layer: int) -> list[Failure]:
    """Run all layers over another batch (the requests in reverse), then all of them again: A, B, A for each."""
    output = trial.again(layer, partial(_run_again, trial))
    comparison = Comparison(Clause.DETERMINISM, "repeated", "the same call again, after other layers and another batch")
    return compare_all(trial, layer, output, comparison, bitwise=trial.backend.promises.deterministic)


def _run_again(trial: Trial) -> dict[int, Output | BaseException]:
    rows = [
        BatchRow(index, 0, request.new_tokens, request.kv_len)
        for index, request in reversed(list(enumerate(trial.case.requests)))
        if request.new_tokens
    ]
    for layer in trial.answered:
        if trial.supports_rows(layer, rows, trial.case.mode):
            # Its own name: the other batch must be prepared now, after the base run, and not by an earlier check.
            trial.run(layer, "between", lambda: trial.posed.batch.derive(rows, trial.case.mode))
    return {layer: trial.attempt(partial(trial.run, layer)) for layer in trial.answered}


def _hinted(trial: Trial, layer: int) -> list[Failure]:
    batch = trial.posed.batch
    query_hint = batch.max_q_len + _MORE_QUERIES if trial.case.mode in {"extend", "mixed"} else batch.max_q_len
    key_hint = max(2 * batch.max_seq_len + _MORE_KEYS, _CONTEXTS[trial.case.seed % len(_CONTEXTS)])
    if not trial.supports_hints(layer, max_q_len=query_hint, max_kv_len=key_hint):
        return []  # where the hint picks the kernel, there may be none for a larger one
    output = trial.run(layer, "host_hints", lambda: replace(batch, max_seq_len=key_hint, max_q_len=query_hint))
    promises = trial.backend.promises
    comparison = Comparison(Clause.HOST_HINTS, "host_hints", "larger max_seq_len and max_q_len")
    bitwise = promises.hint_invariant and promises.deterministic
    failures = compare_all(trial, layer, output, comparison, bitwise=bitwise)
    return behind_what_is_plain(trial, layer, failures)


def _over_dirt(trial: Trial, layer: int) -> list[Failure]:
    """Run the layer over dirty scratch memory, and zero the memory afterwards."""
    parts = [_parts(workspace) for workspace in _workspaces(trial)]
    for kept, free in parts:
        kept.zero_()
        free.fill_(DIRT)
    try:
        output = trial.run(layer)
        failures = [_left_behind(layer, kept) for kept, _ in parts if bool(kept.any())]
    finally:
        for kept, free in parts:
            kept.zero_()
            free.zero_()
    comparison = Comparison(
        Clause.DETERMINISM, "workspace", f"the same call over scratch memory full of 0x{DIRT:X} bytes"
    )
    compared = compare_all(trial, layer, output, comparison, bitwise=trial.backend.promises.deterministic)
    return failures[:1] or compared


def _left_behind(layer: int, kept: torch.Tensor) -> Failure:
    places = kept.nonzero()
    summary = (
        f"{places.shape[0]} of the first {kept.numel()} bytes of the workspace, which must be zero at every launch, "
        f"are not zero after the run; the first of them is byte {int(places[0])}"
    )
    return Failure(clause=Clause.DETERMINISM, check="workspace", layer=layer, summary=summary)


def _parts(workspace: Workspace) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the bytes that must be zero at a launch, and the rest, whose contents must not matter."""
    whole = workspace.memory.view(-1).view(torch.uint8)
    return whole[: workspace.zero_bytes], whole[workspace.zero_bytes :]


def _workspaces(trial: Trial) -> tuple[Workspace, ...]:
    prepared, _ = trial.prepared(BASE, lambda: trial.posed.batch)
    if not isinstance(prepared, Scratched):
        return ()
    with trial.surroundings.of_torch():
        return prepared.workspaces()


def _has_workspaces(trial: Trial, _layer: int) -> bool:
    return bool(_workspaces(trial))


REPEATED = outlines.REPEATED.check(always, _repeated)
HOST_HINTS = outlines.HOST_HINTS.check(always, _hinted)
WORKSPACE = outlines.WORKSPACE.check(_has_workspaces, _over_dirt)
