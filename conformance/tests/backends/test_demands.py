"""What a case demands of a backend beyond the required clauses, each with the promise that meets it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attnconf.backends.demands import as_promised, not_promised, unmet_promise
from attnconf.backends.protocol import FINITE, REQUIRED, Promises
from attnconf.cases.case import Case, Layer, Paging, Poison
from attnconf.cases.drawing.draws import Draws
from attnconf.cases.drawing.space import Space
from attnconf.cases.drawing.strategies import free_layers
from attnconf.cases.request import Request

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


LITTLE = Promises(
    dead_k=REQUIRED,
    dead_v=FINITE,
    reclaimed_v=REQUIRED,
    table_tail=frozenset({"null", "stale"}),
    empty_kv=False,
    empty_q=False,
)
RECLAIMED = Paging(hybrid=True, reclaimed=True, extra_columns=1, table_tail="invalid")


def test_a_case_within_all_promises_is_what_was_drawn() -> None:
    harsh = case(
        paging=RECLAIMED, poison=Poison(k="nan", v="inf"), requests=(Request(new_tokens=0), Request(new_tokens=2))
    )
    assert as_promised(harsh, KEPT) == harsh
    mild = case(poison=Poison(k="zero", v="stale"), paging=Paging(extra_columns=1, table_tail="null"))
    assert as_promised(mild, LITTLE) == mild
    full = case(layers=(FULL,), paging=RECLAIMED.model_copy(update={"table_tail": "null"}))
    assert as_promised(full, replace(LITTLE, reclaimed_v=NONE)) == full  # no layer of it has a window to leave


def test_each_demand_gets_the_harshest_form_that_is_promised() -> None:
    asked = as_promised(case(paging=RECLAIMED, poison=Poison(k="nan", v="inf")), LITTLE)
    assert (asked.poison.k, asked.poison.v) == ("stale", "stale")  # values lie in reclaimed pages, too
    assert (asked.paging.table_tail, asked.paging.reclaimed) == ("stale", True)
    assert as_promised(case(poison=Poison(k="nan", v="inf")), LITTLE).poison == Poison(k="stale", v="huge")
    assert not as_promised(case(paging=RECLAIMED), replace(LITTLE, reclaimed_v=NONE)).paging.reclaimed
    bytes_ = case(kv_dtype="float8_e4m3fn", poison=Poison(v="nan"))
    assert as_promised(bytes_, replace(KEPT, dead_v=FINITE | {"inf"})).poison.v == "huge"


def test_who_promises_no_empty_request_gets_one_with_a_token() -> None:
    empty = case(requests=(Request(new_tokens=0), Request(new_tokens=0, prefix_len=3), Request(new_tokens=2)))
    assert [request.new_tokens for request in as_promised(empty, LITTLE).requests] == [1, 1, 2]
    assert [request.kv_len for request in as_promised(empty, replace(LITTLE, empty_q=True)).requests] == [1, 3, 2]
    padded = case(mode="decode", requests=(Request(),), padding_rows=1)
    assert as_promised(padded, LITTLE).padding_kv_len == 1


def test_nothing_is_left_to_demand_of_who_promises_little_but_a_window_that_it_takes_for_none() -> None:
    space = Space(name="demands", layers=free_layers(), max_kv_len=64)
    drawn = Draws(space, seed=7, examples=120).cases
    refused = [case for case in drawn if unmet_promise(case, 0, LITTLE)]
    assert len(refused) > len(drawn) // 2
    for one in drawn:
        asked = Case.model_validate(as_promised(one, LITTLE).model_dump(by_alias=True))
        assert not any(unmet_promise(asked, layer, LITTLE) for layer in range(len(asked.layers)))
        assert as_promised(asked, LITTLE) == asked
    small = case(layers=(SLIDING, FULL))
    assert as_promised(small, replace(KEPT, least_window=8)) == small


def test_what_drawn_cases_come_without_is_said_in_words() -> None:
    assert not_promised(KEPT) == ()
    assert not_promised(LITTLE) == (
        "nan, inf or huge keys in dead slots",
        "nan or inf values in dead slots",
        "nan, inf or huge values in reclaimed pages",
        "invalid page ids behind a sequence's end",
        "requests without query tokens",
        "requests and rows without keys",
    )
    assert not_promised(replace(KEPT, reclaimed_v=NONE)) == ("reclaimed pages",)
