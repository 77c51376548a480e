"""The message of a failing case: plain text with everything that an expert needs to act on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.backends.protocol import shown_name
from attnconf.cases.inputs.pages import pool_of
from attnconf.cases.sight import follows_spans, follows_tree, sees_ahead
from attnconf.clauses import Clause, cite
from attnconf.escape import terminal
from attnconf.judging.result import Outcome
from attnconf.judging.units import units_text

if TYPE_CHECKING:
    from attnconf.cases.case import Case
    from attnconf.judging.result import CaseResult, Failure, LayerResult, Place

_UNDECLARED = {
    Outcome.REFUSED: "refused without having declared it",
    Outcome.CRASHED: "crashed",
    Outcome.OOM: "ran out of memory",
}


def render_failure(result: CaseResult, replay_command: str) -> str:
    """Return what is wrong with ``result``, with the case and the command that repeats it."""
    return (
        f"{describe_failure(result)}\n\n{terminal(f'case:   {result.case!r}')}\n{terminal(f'replay: {replay_command}')}"
    )


def describe_failure(result: CaseResult) -> str:
    """Return what is wrong with ``result``, layer by layer; only the lines of this text are lines of it."""
    case = result.case
    answer = f"out {case.out_dtype}, " if case.out_dtype else ""
    lines = [
        (
            f"{shown_name(result.backend, result.evidence)} fails case {case.id} of model {case.model}"
            f" (mode {case.mode}, q {case.q_dtype}, kv {case.kv_dtype}, {answer}{result.evidence} evidence)"
        )
    ]
    for layer in result.layers:
        if layer.outcome.is_failure:
            lines += ["", *_layer(case, layer)]
    return "\n".join(map(terminal, lines))


def _layer(case: Case, result: LayerResult) -> list[str]:
    geometry = case.layers[result.layer]
    kernel = f", kernel {result.kernel}" if result.kernel else ""
    values = "" if geometry.head_dim_v is None else f" and {geometry.head_dim_v} of values"
    spans = ", drafts in a tree" if follows_tree(case.requests) else ""
    spans += ", bidirectional" if sees_ahead(geometry, case.requests) else ""
    spans += ", follows spans" if follows_spans(geometry, case.requests) else ""
    lines = [
        (
            f"layer {result.layer}: {geometry.cell_kind}, window_left {geometry.window_left}, {geometry.num_qo_heads}"
            f" query and {geometry.num_kv_heads} KV heads, head_dim {geometry.head_dim}{values}{spans}{kernel}"
        )
    ]
    if result.outcome in _UNDECLARED:
        lines.append(f"  {cite(Clause.REFUSAL)}: {_UNDECLARED[result.outcome]}: {result.reason}")
    for failure in result.failures:
        lines += _failure(case, failure)
    return lines


def _failure(case: Case, failure: Failure) -> list[str]:
    details = {
        "error": "" if failure.units is None else f"{units_text(failure.units)} \u00d7 the bound",
        "at": "" if failure.place is None else _where(failure.place),
        "memory": "" if failure.place is None else _memory(case, failure.place),
        "keys": failure.keys,
        "bug": failure.suspicion,
    }
    return [
        f"  {cite(failure.clause)}, check {failure.check}: {failure.summary}",
        *(f"    {name + ':':<8}{text}" for name, text in details.items() if text),
    ]


def _where(place: Place) -> str:
    row = f"request {place.request}, token {place.token}, head {place.head}"
    return f"{row}, the LSE" if place.dim < 0 else f"{row}, dim {place.dim}"


def _memory(case: Case, place: Place) -> str:
    if place.page is None:
        return ""
    owner = case.owner(place.layer)
    return f"layer {owner}'s cache in the {pool_of(case, owner)} pool, page {place.page}, slot {place.slot}"
