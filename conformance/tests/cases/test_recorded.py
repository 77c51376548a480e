"""Recorded tables are taken as they are, and refused where a token would have no place of its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from attnconf.backends import reference
from attnconf.cases.case import Case, Layer, Paging
from attnconf.cases.inputs.layout import place
from attnconf.cases.recorded import Recorded
from attnconf.cases.request import Request
from attnconf.judging.checks.catalogue import all_checks
from attnconf.judging.run import run_case
from attnconf.platforms import detect

HEADS = {"num_qo_heads": 2, "num_kv_heads": 1, "head_dim": 32, "sm_scale": 0.2}
SLIDING = Layer(kind="sliding", window_left=3, **HEADS)
FULL = Layer(kind="full", **HEADS)
TWO = (Request(prefix_len=9, new_tokens=1), Request(prefix_len=5, new_tokens=1, shares_with=0, shared_pages=1))


def make(recorded: dict[str, Any], **changes: Any) -> Case:  # noqa: ANN401 - fields of Case and Paging
    paging = Paging(
        page_size=4,
        placement="recorded",
        recorded=Recorded(**recorded),
        hybrid=changes.pop("hybrid", False),
        reclaimed=changes.pop("reclaimed", False),
    )
    return Case(mode="decode", layers=changes.pop("layers", (FULL,)), requests=TWO, paging=paging, **changes)


GOOD = {"tables": ((3, 5, 2), (3, 7)), "num_pages": 9}


def test_the_tables_of_a_recorded_case_are_the_batch_s_and_round_trip_as_json() -> None:
    case = make(GOOD)
    assert place(case).tables == ((3, 5, 2), (3, 7))
    assert place(case).num_pages == {"full": 9}
    assert Case.from_data(case.to_data(), "here") == case
    assert place(case, salt=1).tables != place(case).tables


def test_a_variant_that_the_tables_do_not_fit_is_placed_at_random() -> None:
    case = make(GOOD)
    larger = case.model_copy(update={"paging": case.paging.model_copy(update={"page_size": 8})})
    assert larger.recorded_tables is None
    assert [len(table) for table in place(larger).tables] == [2, 1]


def test_alike_requests_may_lie_apart_and_mixed() -> None:
    case = make({"tables": ((3, 5, 2), (4, 7)), "num_pages": 9})
    assert place(case).tables[1][0] == 4


GONE = {"tables": ((0, 5, 2), (3, 7)), "num_pages": 9}
HYBRID = GOOD | {"swa_pages": ((2, 4), (3, 1), (5, 0), (7, 2)), "num_swa_pages": 5}


@pytest.mark.parametrize(
    "case",
    [
        make(GOOD),
        make(GONE, layers=(SLIDING,), reclaimed=True),
        make(HYBRID | {"swa_pages": ((2, 4), (3, 1), (5, 3), (7, 2))}, layers=(SLIDING, FULL), hybrid=True),
    ],
    ids=["shared", "reclaimed", "hybrid"],
)
def test_every_check_holds_for_the_reference(case: Case) -> None:
    result = run_case(case, reference.make(detect()), detect(), torch.device("cpu"), choose=all_checks)
    assert not result.is_failure


@pytest.mark.parametrize(
    ("recorded", "said"),
    [
        ({"tables": ((3, 5, 2),), "num_pages": 9}, "1 tables for 2 requests"),
        (
            {"tables": ((3, 5), (3, 7)), "num_pages": 9},
            "request 0: its recorded table has 2 pages, and its tokens need 3",
        ),
        ({"tables": ((3, 5, 9), (3, 7)), "num_pages": 9}, "page 9 is outside the pool of 9"),
        (
            {"tables": ((3, 5, 2), (3, 5)), "num_pages": 9},
            "request 1: page 5 is also read by request 0, and not shared",
        ),
        ({"tables": ((3, 5, 5), (3, 7)), "num_pages": 9}, "request 0: page 5 is also read by request 0"),
        ({"tables": ((0, 5, 2), (3, 7)), "num_pages": 9}, "request 0: its recorded page 0 is the null page"),
        (GOOD | {"swa_pages": ((3, 1),)}, "swa_pages belong to hybrid memory"),
        (GOOD | {"num_swa_pages": 4}, "sliding pool if paging.hybrid says so"),
    ],
)
def test_tables_that_hold_no_batch_are_refused(recorded: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        make(recorded)


def test_a_placement_without_its_tables_is_refused() -> None:
    with pytest.raises(ValidationError, match="belongs to placement recorded"):
        Case(mode="decode", layers=(FULL,), requests=TWO[:1], paging=Paging(placement="recorded"))


def test_a_page_that_a_sliding_layer_still_reads_must_be_translated() -> None:
    pages = GOOD | {"num_swa_pages": 5}
    with pytest.raises(ValidationError, match="request 0: page 2 is not in the sliding pool, and is still read"):
        make(pages | {"swa_pages": ((3, 1), (5, 2), (7, 3))}, layers=(SLIDING, FULL), hybrid=True, reclaimed=True)
