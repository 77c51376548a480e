"""Distinct cases: whatever asks a case again, it counts once, and its worst result counts."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from attnconf.cases.case import Case, Layer
from attnconf.cases.request import Request
from attnconf.gate.distinct import CountedCase, DistinctCases, counted, packed, unpacked
from attnconf.judging.result import CaseResult, LayerResult, Outcome

LAYER = Layer(kind="full", num_qo_heads=2, num_kv_heads=1, head_dim=8, sm_scale=1.0)
CASES = [Case(mode="decode", layers=(LAYER, LAYER), requests=(Request(prefix_len=length),)) for length in (3, 4, 5)]


def a_layer(index: int, outcome: Outcome) -> LayerResult:
    units = 0.25 * (1 + index) if outcome.is_executed else None
    return LayerResult(layer=index, outcome=outcome, worst_units=units, reason="because", effective=("paging",))


def result(case: Case, *outcomes: Outcome, backend: str = "b") -> CountedCase:
    layers = tuple(a_layer(index, outcome) for index, outcome in enumerate(outcomes))
    return counted(CaseResult(case=case, backend=backend, evidence="kernel", layers=layers))


outcomes = st.sampled_from([outcome for outcome in Outcome if outcome is not Outcome.CONTRACT_ONLY])  # of kernels
results = st.lists(
    st.builds(result, st.sampled_from(CASES), outcomes, outcomes, backend=st.sampled_from(["a", "b"])), max_size=6
)


@given(results, st.randoms(use_true_random=False))
def test_order_and_repetition_change_no_cell(some: list[CountedCase], random: st.DataObject) -> None:
    shuffled = [*some, *some[:3]]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    once, again = DistinctCases(some), DistinctCases(shuffled)
    assert (once.cells, once.executed) == (again.cells, again.executed)
    distinct = len({(one.id, one.backend) for one in some})
    assert sum(again.repeated.values()) == len(shuffled) - distinct
    assert sum(cell.executed + cell.broken + cell.not_run + cell.unsupported - cell.failed for cell in once.cells) == (
        2 * distinct
    )


@given(results)
def test_they_travel_as_json(some: list[CountedCase]) -> None:
    assert unpacked(json.loads(json.dumps(packed(some), allow_nan=False)), "test") == some


def test_the_worst_result_of_a_case_counts() -> None:
    passed = result(CASES[0], Outcome.PASSED, Outcome.PASSED)
    failed = result(CASES[0], Outcome.PASSED, Outcome.FAILED)
    missing = result(CASES[0], Outcome.NOT_RUN, Outcome.NOT_RUN)
    (cell,) = DistinctCases([passed, failed, missing]).cells
    assert (cell.executed, cell.passed, cell.failed, cell.not_run) == (2, 1, 1, 0)
    (cell,) = DistinctCases([missing, passed]).cells
    assert (cell.executed, cell.passed, cell.not_run) == (2, 2, 0)


def test_ten_thousand_cases_take_a_few_megabytes() -> None:
    text = json.dumps(packed([result(CASES[0], Outcome.PASSED, Outcome.PASSED)] * 100), separators=(",", ":"))
    assert len(text) < 100 * 350
