"""Two receipts compared: what is new, gone, worse or slower, and nothing for equal ones."""

from __future__ import annotations

from attnconf.report.changes import changes
from conformance.tests.support.receipts import a_cell, a_failure, a_receipt

ONE_BROKEN = a_cell(executed=9, passed=8, failed=1, worst_units=7.0, histogram=(*[0] * 9, 8, 1))
FINE = a_cell(executed=9, passed=9, worst_units=0.5, histogram=(0, 0, 0, 0, 9, *[0] * 6))


def headings(new: object, old: object) -> dict[str, tuple[str, ...]]:
    return dict(changes([new], [old]).found)  # type: ignore[list-item]


def test_the_same_receipt_is_no_change() -> None:
    one = a_receipt(FINE, backend_seconds={FINE.backend: 9.0})
    found = changes([one], [one])
    assert found.found == ()
    assert found.lines == ["against the older receipts: nothing new, gone, worse or slower"]


def test_a_bug_and_a_broken_cell_are_new_one_way_and_gone_the_other() -> None:
    good, bad = a_receipt(FINE), a_receipt(ONE_BROKEN, failures=(a_failure(backend=FINE.backend),))
    assert set(headings(bad, good)) == {"new bug", "newly broken"}
    assert set(headings(good, bad)) == {"bug gone", "mended"}


def test_what_was_judged_and_is_not_any_more_is_gone() -> None:
    none = a_receipt(FINE.model_copy(update={"executed": 0, "passed": 0, "not_run": 9, "histogram": ()}))
    (text,) = headings(none, a_receipt(FINE))["gone"]
    assert text.endswith("9 layers judged before, none now")
    assert set(headings(a_receipt(FINE), none)) == {"new"}


def test_a_larger_error_within_the_bound_is_worse() -> None:
    worse = FINE.model_copy(update={"worst_units": 0.9})
    (text,) = headings(a_receipt(worse), a_receipt(FINE))["worse"]
    assert text.endswith("0.50 units before, 0.90 now")
    assert headings(a_receipt(FINE), a_receipt(worse)) == {}


def test_a_slower_backend_is_named_on_the_same_machine_alone() -> None:
    fast, slow = (a_receipt(FINE, backend_seconds={FINE.backend: seconds}) for seconds in (9.0, 18.0))
    (text,) = headings(slow, fast)["slower"]
    assert "1 s a layer before, 2 s now" in text
    elsewhere = slow.model_copy(update={"platform": slow.platform.model_copy(update={"device": "H100", "sm": "9.0"})})
    assert "slower" not in headings(elsewhere, fast)
