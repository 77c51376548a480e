"""Bugs: failing cases told once, the largest first, each by its smallest case."""

from __future__ import annotations

import math
import re

from attnconf.cases.request import Request
from attnconf.report.bugs import bugs_of
from attnconf.report.compose import compose
from attnconf.report.page import render_page
from attnconf.report.summary import summarise
from conformance.tests.support.receipts import CASE, a_cell, a_failure, a_receipt

WIDE = CASE.model_copy(update={"requests": (Request(prefix_len=4000),)})
SMALL = CASE.model_copy(update={"requests": (Request(prefix_len=3),)})


def test_one_bug_is_told_once_by_its_smallest_case() -> None:
    (bug,) = bugs_of([a_failure(case=WIDE, worst_units=9.0), a_failure(case=SMALL, worst_units=2.0)])
    assert bug.smallest.case == SMALL
    assert bug.worst_units == 9.0
    assert bug.title == "wrong: clause 2 (window)"


def test_another_kernel_clause_backend_or_diagnosis_is_another_bug() -> None:
    others = [{"kernel": "k"}, {"clauses": (3,)}, {"backend": "b"}, {"diagnosis": "a dead slot was read"}]
    assert len(bugs_of([a_failure(), *(a_failure(**other) for other in others)])) == 5


def test_what_gave_no_number_comes_first_then_the_largest() -> None:
    units = [2.0, None, math.inf, 70_775.0]
    found = bugs_of(a_failure(backend=f"b{index}", worst_units=one) for index, one in enumerate(units))
    assert [bug.smallest.backend for bug in found] == ["b1", "b2", "b3", "b0"]


def test_twenty_failures_of_three_bugs_are_three_cards_that_squares_lead_to() -> None:
    kinds = ["the window is ignored", "a dead slot was read", "one key too many"]
    failures = tuple(
        a_failure(case=CASE.model_copy(update={"seed": seed}), diagnosis=kinds[seed % 3], worst_units=float(seed + 2))
        for seed in range(20)
    )
    broken = a_cell(backend="wrong", executed=20, failed=20, passed=0, worst_units=21.0, histogram=(*[0] * 10, 20))
    document = compose({"r.json": a_receipt(broken, failures=failures, backend_seconds={"wrong": 61.4})})
    page = render_page(document)
    assert page.count('<details class="card failure" id="bug-') == 3
    assert "3 bugs, each with its smallest failing case" in page
    assert re.search(r'<td class="broken"[^>]*><a href="#bug-1">20 bad</a>', page)
    assert "20 layers judged in 61 s" in " ".join(re.sub("<[^>]*>", " ", page).split())
    assert summarise(document).count("<details><summary>") == 3
