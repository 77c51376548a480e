"""Clause 15 between calls: one of the same shape that differs in one trait, or in what lies in the same tensors.

Backends keep plans, graphs and compiled launches by keys. A key that lacks a trait, or that is an address, gives one
call the answer of another.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from attnconf.cases.dtypes import E5M2, FP8, QUANTISED
from attnconf.cases.inputs.batch import BatchRow
from attnconf.clauses import Clause
from attnconf.judging.account import account_of, with_one_more
from attnconf.judging.checks import outlines
from attnconf.judging.checks.agreement import Comparison, compare_all
from attnconf.judging.checks.replays import shorter
from attnconf.judging.checks.static_memory import load, own_memory
from attnconf.judging.result import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from attnconf.cases.case import Case, Layer
    from attnconf.judging.execution import Output
    from attnconf.judging.trial import Trial

SIBLINGS_NAME = outlines.SIBLINGS.name
OVERWRITTEN_NAME = outlines.OVERWRITTEN.name

_CONTEXT = 131_072
_PLAIN_SCALES = {"k_scale": 1.0, "v_scale": 1.0, "k_scales": (), "v_scales": ()}
_LONGEST = 4096
"""Keys of the longest request up to which a case is asked again with other contents."""


def siblings(case: Case, layer: int) -> Iterator[tuple[str, Case]]:
    """Yield cases of the shape of ``case`` that differ in one trait that a call brings, each with the trait's name."""
    own = case.layers[layer]
    factor = 0.5 if own.sm_scale >= 1.0 else 2.0
    yield "sm_scale", _with_layers(case, lambda one: {"sm_scale": one.sm_scale * factor})
    if own.window_left > 0:
        yield "the window", _with_layers(case, lambda one: {"window_left": _halved(one.window_left)})
    if own.logits_soft_cap is not None:
        yield "the soft cap", _with_layers(case, lambda one: {"logits_soft_cap": _doubled(one.logits_soft_cap)})
    if case.layers[case.owner(layer)].k_scale != 1.0:
        yield "k_scale", _with_layers(case, lambda one: {"k_scale": one.k_scale * 2.0})
        yield "v_scale", _with_layers(case, lambda one: {"v_scale": one.v_scale * 2.0})
    if case.layers[case.owner(layer)].k_scales:
        yield (
            "the scales of heads",
            _with_layers(case, lambda one: {"k_scales": _doubles(one), "v_scales": one.v_scales}),
        )
    query = case.query
    other = "packed" if query.storage == "apart" else "apart"
    yield "the strides of the query", case.model_copy(update={"query": query.model_copy(update={"storage": other})})
    context = 0 if query.context_len else _CONTEXT
    yield "the host hint", case.model_copy(update={"query": query.model_copy(update={"context_len": context})})
    slack = 0 if case.paging.table_slack else 3
    yield "the strides of the table", _with_paging(case, table_slack=slack)
    storage = "padded" if case.paging.storage == "apart" else "apart"
    yield "the strides of the cache", _with_paging(case, storage=storage)
    yield from _other_dtype(case)


def _other_dtype(case: Case) -> Iterator[tuple[str, Case]]:
    """Yield the case over KV of 8 bits, or of the query's dtype, or of another format, if its query has 16 bits."""
    if case.q_dtype in {"float32", FP8} or case.out_dtype is not None:
        return
    plain = case.kv_dtype == case.q_dtype
    kinds = case.poison.model_dump()
    finite = {part: "huge" if kind == "inf" else kind for part, kind in kinds.items()}  # e4m3 has no infinity
    poison = case.poison.model_copy(update=finite)
    layers = tuple(layer.model_copy(update=_PLAIN_SCALES) for layer in case.layers)
    changed = {"kv_dtype": FP8 if plain else case.q_dtype, "poison": poison, "layers": layers}
    yield "the dtype of keys and values", case.model_copy(update=changed)
    if case.kv_dtype in QUANTISED:
        other = E5M2 if case.kv_dtype == FP8 else FP8
        yield "the format of keys and values", case.model_copy(update={"kv_dtype": other, "poison": poison})


def _with_paging(case: Case, **changes: object) -> Case:
    return case.model_copy(update={"paging": case.paging.model_copy(update=changes)})


def _with_layers(case: Case, changes: Callable[[Layer], dict[str, object]]) -> Case:
    """Return ``case`` with the same change to every layer: what one takes from another stays as right as it was."""
    layers = tuple(layer.model_copy(update=changes(layer)) for layer in case.layers)
    return case.model_copy(update={"layers": layers})


def _doubles(layer: Layer) -> tuple[float, ...]:
    return tuple(scale * 2.0 for scale in layer.k_scales)


def _halved(window_left: int) -> int:
    return window_left // 2 if window_left > 0 else window_left


def _doubled(cap: float | None) -> float | None:
    return None if cap is None else cap * 2.0


def _is_short(trial: Trial, _layer: int) -> bool:
    return trial.case.max_kv_len <= _LONGEST


def _run_siblings(trial: Trial, layer: int) -> list[Failure]:
    """Prepare the batch anew, a sibling and another one, once for all layers that share them; run the first two.

    Which sibling it is depends on what the backend declares, and not on what is built: a replay elsewhere takes the
    same. One that lacks a build is left out.
    """
    if not trial.is_right(layer):
        return []  # the numerics check reports it, and what a wrong backend says of another call proves nothing
    found = [one for one in siblings(trial.case, layer) if trial.is_askable(one[1], layer)]
    trait, case = found[trial.case.seed % len(found)] if found else ("", trial.case)
    if not trial.supports(case, layer):
        trait, case = "", trial.case
    sibling, name = trial.beside(case), case.id
    anew = trial.prepared(f"anew beside {name}", trial.posed.copied_batch)
    beside = trial.prepared(f"sibling {name}", lambda: sibling.posed.spare)
    rows = [
        BatchRow(index, 0, request.new_tokens, request.kv_len)
        for index, request in reversed(list(enumerate(trial.case.requests)))
        if request.new_tokens
    ]
    if trial.supports_rows(layer, rows, trial.case.mode):
        trial.prepared(f"between, beside {name}", lambda: anew[1].derive(rows, trial.case.mode))
    again = trial.run_prepared(*anew, layer)
    comparison = Comparison(Clause.DETERMINISM, SIBLINGS_NAME, "the same call, while others were prepared behind it")
    failures = compare_all(trial, layer, again, comparison, bitwise=trial.backend.promises.deterministic)
    if failures or not trait:
        return failures
    output = sibling.run_prepared(*beside, layer)
    what = f"wrong in a call of the same shape that differs in {trait} alone, after the right one"
    return _judged(sibling, layer, output, SIBLINGS_NAME, what)


def _run_overwritten(trial: Trial, layer: int) -> list[Failure]:
    """Run the batch from other memory, overwrite that with shorter requests, prepare it anew, and run it.

    All layers are run over each of the two, once.
    """
    other = trial.beside(shorter(trial.case))
    if not trial.is_right(layer) or not trial.can_run(other.case, layer):
        return []
    output = other.again(layer, lambda: _overwritten(trial, other))
    what = "wrong once other contents were written into the same tensors, and prepared again"
    return _judged(other, layer, output, OVERWRITTEN_NAME, what)


def _overwritten(trial: Trial, other: Trial) -> dict[int, Output | BaseException]:
    layers = [layer for layer in trial.answered if trial.can_run(other.case, layer)]
    static = own_memory(trial.posed.batch, other.posed)
    first = trial.prepare(static)
    found = {layer: trial.attempt(partial(trial.run_prepared, first, static, layer)) for layer in layers}
    changed = load(static, other.posed.spare)
    second = other.prepare(changed)
    for layer in [layer for layer, output in found.items() if not isinstance(output, BaseException)]:
        found[layer] = other.attempt(partial(other.run_prepared, second, changed, layer))
    return found


def _judged(trial: Trial, layer: int, output: Output, check: str, what: str) -> list[Failure]:
    if not trial.wrong_requests(layer, output):
        return []
    worst = max(trial.units_by_request(layer, output))
    failure = Failure(clause=Clause.DETERMINISM, check=check, layer=layer, units=worst, summary=what)
    # who is wrong where nothing can have been kept has kept nothing wrongly
    own = account_of(trial, with_one_more(trial.case), layer, check) if trial.explains else None
    return [failure] if own is None else [replace(own, summary=f"{what}: {own.summary}")]


SIBLINGS = outlines.SIBLINGS.check(_is_short, _run_siblings)
OVERWRITTEN = outlines.OVERWRITTEN.check(_is_short, _run_overwritten)
