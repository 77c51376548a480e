"""What a case demands of a backend beyond the required clauses, each with the promise that meets it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attnconf.backends.protocol import FINITE, Promises
from attnconf.case import Case, Layer, Paging, Poison, Request
from attnconf.demands import unmet_promise

FULL = Layer(kind="full", num_qo_heads=1, num_kv_heads=1, head_dim=16, sm_scale=0.25)
SLIDING = FULL.model_copy(update={"kind": "sliding", "window_left": 7})
NONE = frozenset()
KEPT = Promises()


def case(**changes: object) -> Case:
    return Case.model_validate(
        {"mode": "extend", "layers": (FULL, SLIDING), "requests": (Request(prefix_len=40, new_tokens=2),), **changes}
    )


@pytest.mark.parametrize(
    ("asked", "declined", "reason"),
    [
        (case(poison=Poison(k="nan")), {"dead_k": FINITE}, "nan keys in dead slots"),
        (case(poison=Poison(v="inf")), {"dead_v": FINITE}, "inf values in dead slots"),
        (
            case(paging=Paging(extra_columns=1, table_tail="invalid")),
            {"table_tail": frozenset({"null", "stale"})},
            "invalid page ids behind a sequence's end",
        ),
        (
            case(requests=(Request(prefix_len=40), Request(new_tokens=0, prefix_len=3))),
            {"empty_q": False},
            "a request without query tokens",
        ),
        (case(mode="decode", requests=(Request(),), padding_rows=1), {"empty_kv": False}, "kv_len 0"),
        (case(layers=(SLIDING, FULL)), {"least_window": 8}, "takes a window_left from 8 on, not 7"),
    ],
)
def test_a_demand_is_met_by_its_promise_alone(asked: Case, declined: dict[str, object], reason: str) -> None:
    assert unmet_promise(asked, 0, KEPT) is None
    refused = unmet_promise(asked, 0, replace(KEPT, **declined))
    assert refused is not None
    assert reason in refused.reason


def test_reclaimed_pages_are_a_demand_of_sliding_layers_and_of_what_the_null_page_holds() -> None:
    asked = case(paging=Paging(hybrid=True, reclaimed=True), poison=Poison(v="nan"))
    assert unmet_promise(asked, 1, KEPT) is None
    assert unmet_promise(asked, 0, replace(KEPT, reclaimed_v=NONE)) is None
    finite = unmet_promise(asked, 1, replace(KEPT, reclaimed_v=FINITE))
    assert finite is not None
    assert "reclaimed pages with nan values" in finite.reason
    calm = case(paging=Paging(hybrid=True, reclaimed=True), poison=Poison(v="zero"))
    assert unmet_promise(calm, 1, replace(KEPT, reclaimed_v=FINITE)) is None
    never = unmet_promise(calm, 1, replace(KEPT, reclaimed_v=NONE))
    assert never is not None
    assert "reclaimed pages behind" in never.reason
