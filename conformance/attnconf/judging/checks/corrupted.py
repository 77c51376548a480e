"""Clause 20 over metadata that no batch can have: a backend that says it validates refuses it, or is right."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from attnconf.backends.protocol import CORRUPTIONS
from attnconf.cases.inputs.target import make_target
from attnconf.clauses import Clause
from attnconf.judging.checks import outlines
from attnconf.judging.checks.refusal import REFUSALS
from attnconf.judging.execution import read_output
from attnconf.judging.result import Failure

if TYPE_CHECKING:
    import torch

    from attnconf.backends.protocol import Corruption
    from attnconf.cases.inputs.batch import Batch
    from attnconf.cases.inputs.target import Target
    from attnconf.judging.trial import Trial

CHECK_NAME = outlines.CORRUPTED.name

_BEYOND = 7
"""Added to a limit, for a number that is beyond it."""

_CAN_BE_RIGHT: frozenset[Corruption] = frozenset({"page_ids", "hints"})
"""A page may be one that no row sees, and a hint need not be read: then the right answer is as good as a refusal."""


def corrupt(batch: Batch, kind: Corruption) -> Batch:
    """Return ``batch`` with one number of its metadata changed to one that cannot be, on host and device alike."""
    longest = max(range(len(batch.kv_lens)), key=batch.kv_lens.__getitem__)
    if kind == "negative_lengths":
        return _with_length(batch, longest, -batch.kv_lens[longest])
    if kind == "long_lengths":
        return _with_length(batch, longest, batch.block_tables.shape[1] * batch.page_size + _BEYOND)
    if kind == "query_starts":
        starts = batch.qo_indptr.clone()
        starts[-1] = len(batch.layers[0].q) + _BEYOND
        return replace(batch, qo_indptr=starts, q_lens=tuple(starts.diff().tolist()))
    if kind == "hints":
        return replace(batch, max_seq_len=max(0, max(batch.kv_lens) - 1))
    tables = batch.block_tables.clone()
    last = max(0, batch.kv_lens[longest] - 1) // batch.page_size
    tables[longest, last] = 2**31 - 1 - _BEYOND
    return replace(batch, block_tables=tables)


def _with_length(batch: Batch, request: int, length: int) -> Batch:
    lengths = batch.seq_lens.clone()
    lengths[request] = length
    return replace(batch, seq_lens=lengths, kv_lens=tuple(lengths.tolist()), max_seq_len=max(batch.max_seq_len, length))


def _validates(trial: Trial, _layer: int) -> bool:
    return bool(trial.backend.promises.validates) and trial.case.max_kv_len > 0


def _run(trial: Trial, layer: int) -> list[Failure]:
    kinds = [kind for kind in CORRUPTIONS if kind in trial.backend.promises.validates]
    found = (_failure(trial, layer, kind) for kind in kinds)
    return [failure for failure in found if failure is not None][:1]


def _failure(trial: Trial, layer: int, kind: Corruption) -> Failure | None:
    batch = corrupt(trial.posed.batch, kind)
    target = make_target(trial.posed.batch, layer, lse=trial.backend.promises.lse is not None)
    said = kind.replace("_", " ")
    try:
        kernel = _ask(trial, batch, layer, target.out, target.lse)
    except REFUSALS as error:
        if not str(error).strip():
            return _broken(layer, f"it refused corrupted {said} with a bare {type(error).__name__}, naming no reason")
        unwritten, intact = target.inspect()
        if unwritten < target.elements or not intact:
            return _broken(layer, f"it wrote to the output before it refused corrupted {said}")
        return None
    except Exception as error:  # noqa: BLE001 - a backend may raise anything
        return _broken(layer, f"it validates {said}, and ended with {type(error).__name__} over corrupted ones")
    if kind in _CAN_BE_RIGHT and _is_right(trial, layer, target, kernel):
        return None
    return _broken(layer, f"it validates {said}, and answered over corrupted ones without a word")


def _ask(trial: Trial, batch: Batch, layer: int, out: torch.Tensor, lse: torch.Tensor | None) -> str:
    with trial.surroundings.of_torch():
        return trial.backend.prepare(batch).run(layer, out, lse)


def _is_right(trial: Trial, layer: int, target: Target, kernel: str) -> bool:
    output = read_output(target, kernel, trial.backend.promises.lse, trial.posed.oracle_device)
    return not trial.wrong_requests(layer, output)


def _broken(layer: int, summary: str) -> Failure:
    return Failure(clause=Clause.REFUSAL, check=CHECK_NAME, layer=layer, summary=summary)


CHECK = outlines.CORRUPTED.check(_validates, _run)
