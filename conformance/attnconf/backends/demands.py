"""Demands: what a case needs beyond the required clauses, compared with a backend's promises.

A recorded case that needs more is unsupported. A drawn case is changed to the harshest form that the promises allow
(``as_promised``). Otherwise a backend that does not tolerate NaN in dead slots would lose every case with NaN, and with
it windows, tables and heads that have nothing to do with NaN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from attnconf.backends.protocol import ANYTHING, Promises, Unsupported
from attnconf.cases.dtypes import FINITE_ALONE
from attnconf.cases.inputs.pages import has_table_tail

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from attnconf.cases.case import Case, PoisonKind, TableTail
    from attnconf.cases.request import Request

K = TypeVar("K", bound=str)

_HARSHEST: tuple[PoisonKind, ...] = ("nan", "inf", "huge", "stale", "zero")
_HARSHEST_TAIL: tuple[TableTail, ...] = ("invalid", "stale", "null")


def unmet_promise(case: Case, layer: int, promises: Promises) -> Unsupported | None:
    """Return the first thing that ``case`` needs and ``promises`` lack, or None."""
    for part, kind, tolerated in (
        ("keys", case.poison.k, promises.dead_k),
        ("values", case.poison.v, promises.dead_v),
    ):
        if kind not in tolerated:
            return Unsupported(f"does not promise to bear {kind} {part} in dead slots")
    if 0 <= case.layers[layer].window_left < promises.least_window:
        return Unsupported(f"takes a window_left from {promises.least_window} on, not {case.layers[layer].window_left}")
    if has_table_tail(case) and case.paging.table_tail not in promises.table_tail:
        return Unsupported(f"does not promise to bear {case.paging.table_tail} page ids behind a sequence's end")
    reclaimed = case.paging.reclaimed and case.layers[layer].kind == "sliding"
    if reclaimed and case.poison.v not in promises.reclaimed_v:
        contents = f" with {case.poison.v} values" if promises.reclaimed_v else ""
        return Unsupported(f"does not promise to bear reclaimed pages{contents} behind the window")
    return _unmet_of_rows(case, promises)


def _unmet_of_rows(case: Case, promises: Promises) -> Unsupported | None:
    """Return the first demand that the rows of queries and tables make in vain, or None."""
    queries = _listed(sorted(promises.query_storage))
    demands = {
        f"takes queries {queries}, not {case.query.storage}": case.query.storage not in promises.query_storage,
        "takes no rows of queries behind the last request's": case.query.slack_rows and not promises.slack_rows,
        "takes no block table that is a slice of a wider one": case.paging.table_slack and not promises.table_slack,
        "does not promise zeros for a row with kv_len 0": (
            case.padding_rows and case.padding_kv_len == 0 and not promises.empty_kv
        ),
        "does not promise to bear a request without query tokens": (
            any(request.new_tokens == 0 for request in case.requests) and not promises.empty_q
        ),
        "does not promise to bear a request without keys": (
            any(request.kv_len == 0 for request in case.requests) and not promises.empty_kv
        ),
    }
    return next((Unsupported(reason) for reason, unmet in demands.items() if unmet), None)


def as_promised(case: Case, promises: Promises) -> Case:
    """Return ``case`` in the harshest form that ``promises`` allow; it keeps everything that is promised.

    A row or request without keys or query tokens gets one where empty ones are not promised. Dead slots and reclaimed
    pages contain the same values, so these must satisfy both promises. A demand that cannot be weakened stays, such as
    a window so small that the backend takes it for none.
    """
    freed = case.paging.reclaimed and any(layer.kind == "sliding" for layer in case.layers)
    never_freed = freed and not promises.reclaimed_v
    tolerated_v = promises.dead_v & promises.reclaimed_v if freed and not never_freed else promises.dead_v
    kinds = tuple(kind for kind in _HARSHEST if kind != "inf" or case.kv_dtype not in FINITE_ALONE)
    poison = {
        "k": _harshest(case.poison.k, promises.dead_k, kinds),
        "v": _harshest(case.poison.v, tolerated_v, kinds),
    }
    paging = {
        "table_tail": _harshest(case.paging.table_tail, promises.table_tail, _HARSHEST_TAIL),
        "reclaimed": case.paging.reclaimed and not never_freed,
        "table_slack": case.paging.table_slack if promises.table_slack else 0,
    }
    query = {
        "storage": case.query.storage if case.query.storage in promises.query_storage else "apart",
        "slack_rows": case.query.slack_rows if promises.slack_rows else 0,
    }
    return case.model_copy(
        update={
            "poison": case.poison.model_copy(update=poison),
            "paging": case.paging.model_copy(update=paging),
            "query": case.query.model_copy(update=query),
            "requests": tuple(_with_a_token(request, promises) for request in case.requests),
            "padding_kv_len": 1 if case.padding_rows and not promises.empty_kv else case.padding_kv_len,
        }
    )


def _with_a_token(request: Request, promises: Promises) -> Request:
    missing = (request.new_tokens == 0 and not promises.empty_q) or (request.kv_len == 0 and not promises.empty_kv)
    return request.model_copy(update={"new_tokens": 1}) if missing else request


def _harshest(drawn: K, tolerated: frozenset[K], kinds: tuple[K, ...]) -> K:
    return drawn if drawn in tolerated else next((kind for kind in kinds if kind in tolerated), drawn)


def not_promised(promises: Promises) -> tuple[str, ...]:
    """Return in words what drawn cases lack on a backend with ``promises``."""
    return tuple(_not_promised(promises))


def _not_promised(promises: Promises) -> Iterator[str]:
    for what, tolerated in (
        ("keys in dead slots", promises.dead_k),
        ("values in dead slots", promises.dead_v),
        ("values in reclaimed pages", promises.reclaimed_v),
    ):
        if what.endswith("pages") and not tolerated:
            yield "reclaimed pages"
        elif missing := [kind for kind in _HARSHEST if kind in ANYTHING - tolerated]:
            yield f"{_listed(missing)} {what}"
    if missing_tails := [kind for kind in _HARSHEST_TAIL if kind not in promises.table_tail]:
        yield f"{_listed(missing_tails)} page ids behind a sequence's end"
    if "packed" not in promises.query_storage:
        yield "queries sliced out of packed tensors"
    if not promises.slack_rows:
        yield "rows of queries behind the last request's"
    if not promises.table_slack:
        yield "block tables sliced out of wider ones"
    if not promises.empty_q:
        yield "requests without query tokens"
    if not promises.empty_kv:
        yield "requests and rows without keys"


def _listed(words: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
