"""Removals: the features of a case that can be taken away, each with its clause and the case without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attnconf.cases.case import Case, Layer
from attnconf.cases.dtypes import E5M2, FP8, NVFP4
from attnconf.cases.inputs.levels import ordinary_seed
from attnconf.cases.request import Request
from attnconf.clauses import Clause

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Removal:
    """A removable feature of a case, the ``clause`` about it, and ``without``, which returns the case lacking it.

    ``needs_symptom``: it is tried only where the answer looks like a breach of its clause. ``neutral``: the case
    without it has the same right answer, bit for bit, so whoever is right without it serves it wrongly, whatever the
    numbers look like. ``also`` takes the feature away in another way, in which the answer may not be wrong either.
    ``of_size``: what is taken away is how much there is of something, and no feature of a layer.
    """

    clause: Clause
    text: str
    without: Callable[[Case, int, int], Case]
    needs_symptom: bool = False
    neutral: bool = False
    also: Callable[[Case, int, int], Case] | None = None
    of_size: bool = False


def _paging(**changes: Any) -> Callable[[Case, int, int], Case]:  # noqa: ANN401 - fields of Paging
    return lambda case, _layer, _request: case.model_copy(update={"paging": case.paging.model_copy(update=changes)})


def _query(**changes: Any) -> Callable[[Case, int, int], Case]:  # noqa: ANN401 - fields of QuerySide
    return lambda case, _layer, _request: case.model_copy(update={"query": case.query.model_copy(update=changes)})


def _layers(case: Case, **changes: Any) -> Case:  # noqa: ANN401 - fields of Layer
    return case.model_copy(update={"layers": tuple(layer.model_copy(update=changes) for layer in case.layers)})


def _unshared(request: Request) -> Request:
    return request.model_copy(update={"shares_with": None, "shared_pages": 0})


def _with_drafts_alike(case: Case, _layer: int, request: int) -> Case:
    """Give each request of a verify step as many drafts as the wrong one has."""
    if case.mode != "verify":
        return case
    tokens = max(2, case.requests[request].new_tokens)
    return case.model_copy(update={"requests": tuple(one.resized(one.prefix_len, tokens) for one in case.requests)})


def _without_trees(case: Case, _layer: int, _request: int) -> Case:
    requests = tuple(one.model_copy(update={"tree": ()}) for one in case.requests)
    return case.model_copy(update={"requests": requests})


def _without_spans(case: Case, _layer: int, _request: int) -> Case:
    requests = tuple(one.model_copy(update={"spans": ()}) for one in case.requests)
    return case.model_copy(update={"requests": requests})


def _all_full(case: Case, layer: int, request: int) -> Case:
    """Ask full layers, of which no page is reclaimed."""
    kept = _paging(hybrid=False, reclaimed=False)(case, layer, request)
    return _layers(kept, kind="full", window_left=-1, chunk_size=None)


def _own_kv(case: Case, layer: int, _request: int) -> Case:
    """Give a redirected layer a cache of its own, whose scales are those of its owner."""
    layers, owner = list(case.layers), case.layers[case.owner(layer)]
    scales = {name: getattr(owner, name) for name in ("k_scale", "v_scale", "k_scales", "v_scales")}
    layers[layer] = layers[layer].model_copy(update={"kv_owner": None, **scales})
    return case.model_copy(update={"layers": tuple(layers)})


def usual_products(case: Case, _layer: int, _request: int) -> Case:
    """Ask over numbers whose products need no unusual sm_scale, and whose scores and sinks lie near zero."""
    layers = tuple(one.model_copy(update={"sm_scale": _usual_scale(one)}) for one in case.layers)
    return case.model_copy(update={"layers": layers, "seed": ordinary_seed(case.seed)})


def _usual_scale(layer: Layer) -> float:
    """Return the sm_scale by which products of stored numbers are as large as they mostly are."""
    return float(layer.head_dim**-0.5 / (layer.q_scale * min(layer.k_scales or (layer.k_scale,))))


def _wide_answer(case: Case, _layer: int, _request: int) -> Case:
    """Ask for an answer of 16 bits."""
    if case.answer_dtype != FP8:
        return case
    out_dtype = "bfloat16" if case.q_dtype == FP8 else None
    return case.model_copy(update={"out_dtype": out_dtype})


def _wide_query(case: Case, _layer: int, _request: int) -> Case:
    """Ask with queries of 16 bits."""
    if case.q_dtype != FP8:
        return case
    changes = {"q_dtype": "bfloat16", "out_dtype": FP8 if case.answer_dtype == FP8 else None}
    return _counted(case, q_scale=True).model_copy(update=changes)


def _counted(case: Case, *, q_scale: bool = False, k_scale: bool = False) -> Case:
    """Let sm_scale count as often as scales of an 8-bit query and of keys, so that stored products stay as they are."""
    layers = []
    for index, layer in enumerate(case.layers):
        factor = layer.q_scale if q_scale and case.q_dtype == FP8 else 1.0
        owner = case.layers[case.owner(index)]
        factor *= min(owner.k_scales or (owner.k_scale,)) if k_scale else 1.0
        layers.append(layer.model_copy(update={"sm_scale": layer.sm_scale * factor}))
    return case.model_copy(update={"layers": tuple(layers)})


def _uncalibrated(case: Case, _layer: int, _request: int) -> Case:
    """Ask for queries and answers whose scales are 1."""
    return _layers(_counted(case, q_scale=True), q_scale=1.0, out_scale=1.0)


def _one_scale(case: Case, _layer: int, _request: int) -> Case:
    """Give all heads of a layer the same scales: of keys the smallest, under which stored products are largest."""
    layers = tuple(
        layer.model_copy(
            update={"k_scale": min(layer.k_scales), "v_scale": layer.v_scales[0], "k_scales": (), "v_scales": ()}
        )
        if layer.k_scales
        else layer
        for layer in case.layers
    )
    return case.model_copy(update={"layers": layers})


def _as_e4m3(case: Case, _layer: int, _request: int) -> Case:
    """Ask with keys and values in e5m2 as in e4m3."""
    return case.model_copy(update={"kv_dtype": FP8}) if case.kv_dtype == E5M2 else case


def _unpacked(case: Case, _layer: int, _request: int) -> Case:
    """Ask with keys and values of 4 bits in 8."""
    return case.model_copy(update={"kv_dtype": FP8}) if case.kv_dtype == NVFP4 else case


def as_stored(case: Case, layer: int, request: int) -> Case:
    """Ask with nothing in 8 or 4 bits."""
    wide = _counted(_wide_query(_wide_answer(case, layer, request), layer, request), k_scale=True)
    scales = {"k_scale": 1.0, "v_scale": 1.0, "q_scale": 1.0, "out_scale": 1.0, "k_scales": (), "v_scales": ()}
    return _layers(wide.model_copy(update={"kv_dtype": wide.q_dtype}), **scales)


def with_query_tokens(case: Case, _layer: int, _request: int) -> Case:
    """Return ``case`` without padding rows, requests without query tokens, and any sharing of pages."""
    if not case.padding_rows and all(one.new_tokens for one in case.requests):
        return case
    requests = tuple(_unshared(one) for one in case.requests if one.new_tokens)
    return case.model_copy(update={"requests": requests, "padding_rows": 0, "padding_kv_len": 0})


def _one_page(case: Case, _layer: int, _request: int) -> Case:
    """Make pages so large that every request fits into one."""
    requests = tuple(_unshared(one) for one in case.requests)
    size = 1 << max(one.kv_len for one in case.requests).bit_length()
    paging = case.paging.model_copy(
        update={"page_size": max(case.paging.page_size, size), "placement": "identity", "extra_columns": 0}
    )
    return case.model_copy(update={"requests": requests, "paging": paging})


def _full_pages(case: Case, _layer: int, _request: int) -> Case:
    """Lengthen every prefix until the last page is full."""
    size = case.paging.page_size
    requests = tuple(
        one.model_copy(update={"prefix_len": one.prefix_len + -one.kv_len % size}) for one in case.requests
    )
    return case.model_copy(update={"requests": requests})


def alone(case: Case, _layer: int, request: int) -> Case:
    """Return the case with ``request`` as its only one."""
    alone = {"requests": (_unshared(case.requests[request]),), "padding_rows": 0, "padding_kv_len": 0}
    # one request is no mixed batch
    return case.model_copy(update={**alone, "mode": "extend" if case.mode == "mixed" else case.mode})


def _as_extend(case: Case, _layer: int, _request: int) -> Case:
    """Ask the requests of a mixed batch as an extend."""
    return case.model_copy(update={"mode": "extend"}) if case.mode == "mixed" else case


def _last_rows(case: Case, _layer: int, _request: int) -> Case:
    """Ask for the last row of each request alone, as a decode."""
    requests = tuple(one.resized(one.kv_len - 1, 1) for one in case.requests if one.new_tokens)
    alike = all(one.new_tokens < 2 for one in case.requests)  # noqa: PLR2004 - several
    return case if alike else case.model_copy(update={"requests": requests, "mode": "decode"})


def one_head_each(case: Case, _layer: int, _request: int) -> Case:
    """Give each query head a KV head of its own."""
    layers = tuple(one.model_copy(update={"num_qo_heads": one.num_kv_heads}) for one in case.layers)
    return case.model_copy(update={"layers": layers})


def _one_kv_head(case: Case, _layer: int, _request: int) -> Case:
    """Keep one KV head of each layer, with its group."""
    layers = tuple(
        one.model_copy(update={"num_qo_heads": one.num_qo_heads // one.num_kv_heads, "num_kv_heads": 1})
        for one in case.layers
    )
    return case.model_copy(update={"layers": layers})


def _usual_width(case: Case, _layer: int, _request: int) -> Case:
    """Give all heads the width that every kernel has: 128 numbers, or 64 where they have 128."""
    widths = [64 if one.head_dim == 128 else 128 for one in case.layers]  # noqa: PLR2004 - see above
    layers = tuple(
        one.model_copy(update={"head_dim": width, "head_dim_v": None})
        for one, width in zip(case.layers, widths, strict=True)
    )
    return case.model_copy(update={"layers": layers})


_small_pages = _paging(page_size=1)

AS_NHD = Removal(
    Clause.LAYOUT, "the layout or the storage of the cache", _paging(layout="NHD", storage="apart"), neutral=True
)
AS_HND = Removal(Clause.LAYOUT, "the layout of the cache", _paging(layout="HND", storage="apart"), neutral=True)

REMOVALS = (
    Removal(Clause.HOST_HINTS, "a host hint beyond the longest request", _query(context_len=0), neutral=True),
    Removal(Clause.LAYOUT, "queries that are a slice of a packed tensor", _query(storage="apart"), neutral=True),
    Removal(Clause.READ_ONLY, "rows behind the last request's", _query(slack_rows=0), neutral=True),
    Removal(Clause.LAYOUT, "a block table that is a slice of a wider one", _paging(table_slack=0), neutral=True),
    Removal(Clause.EMPTY_ROWS, "padding rows, or requests without query tokens", with_query_tokens, of_size=True),
    Removal(Clause.CAUSAL, "requests of a verify step with other numbers of drafts", _with_drafts_alike, of_size=True),
    Removal(Clause.WINDOW, "the window, or the chunks", _all_full),
    Removal(Clause.CAUSAL, "trees of drafts", _without_trees),
    Removal(Clause.CAUSAL, "spans whose tokens see each other", _without_spans),
    Removal(
        Clause.CAUSAL,
        "rows that see those behind them",
        lambda case, _layer, _request: _layers(case, bidirectional=False),
    ),
    Removal(Clause.RECLAIMED_PAGES, "reclaimed pages", _paging(reclaimed=False), neutral=True),
    Removal(
        Clause.HYBRID_POOLS,
        "a pool of its own for sliding layers",
        _paging(hybrid=False, reclaimed=False),
        neutral=True,
    ),
    Removal(Clause.KV_SHARING, "KV sharing", _own_kv),
    Removal(Clause.LAYOUT, "values of another width than keys", lambda case, _l, _r: _layers(case, head_dim_v=None)),
    AS_NHD,
    AS_HND,
    Removal(Clause.SCORES, "the soft cap", lambda case, _layer, _request: _layers(case, logits_soft_cap=None)),
    Removal(Clause.SCORES, "sinks", lambda case, _layer, _request: _layers(case, sinks=False)),
    Removal(Clause.QUANTISED, "a calibrated query and answer", _uncalibrated),
    Removal(Clause.QUANTISED, "8-bit answers", _wide_answer),
    Removal(Clause.QUANTISED, "8-bit queries", _wide_query),
    Removal(Clause.QUANTISED, "scales of each KV head", _one_scale),
    Removal(Clause.QUANTISED, "keys and values in e5m2", _as_e4m3),
    Removal(Clause.QUANTISED, "keys and values of 4 bits, with scales of blocks", _unpacked),
    Removal(Clause.QUANTISED, "8-bit keys and values", as_stored),
    Removal(Clause.SCORES, "scores or sinks far from zero, and products of this size", usual_products),
    Removal(
        Clause.DEAD_SLOTS,
        "a last page that is not full",
        _full_pages,
        needs_symptom=True,
        also=_small_pages,
        of_size=True,
    ),
    Removal(Clause.PAGING, "page ids in disorder", _paging(placement="identity"), neutral=True),
    Removal(Clause.PAGING, "several pages", _one_page, of_size=True),
    Removal(Clause.PAGING, "pages of several tokens", _small_pages, of_size=True),
    Removal(Clause.CAUSAL, "a batch of mixed lengths of queries", _as_extend, of_size=True),
    Removal(Clause.INDEPENDENCE, "the other requests of the batch", alone, of_size=True),
    Removal(Clause.GQA, "several query heads a KV head", one_head_each, of_size=True),
    Removal(Clause.GQA, "several KV heads", _one_kv_head, of_size=True),
    Removal(Clause.CAUSAL, "several query tokens of a request", _last_rows, needs_symptom=True, of_size=True),
    Removal(Clause.SCORES, "heads of this width", _usual_width, of_size=True),
)
"""All removals, the narrow ones first.

Where an answer is right without one feature and without another, the fault is in what they have to do with each other,
and the clause is the first one's: a kernel that skips a page too many before its window has no fault in pages alone,
nor one whose window counts the drafts of a tree in trees alone. What is ``neutral`` is tried before all others, so
removing the window does not remove the need for a sliding pool.
"""
