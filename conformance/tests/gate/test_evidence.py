"""Merging receipts: in any order, however often, whatever is merged first; and 2,000 fuzzed ones at the gate."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnconf.errors import InvalidInputError
from attnconf.gate.evidence import Evidence, evidence_of, parse_evidence
from attnconf.gate.plans.fleet import parse_fleet
from attnconf.gate.plans.fleet_plan import plan_fleet
from attnconf.gate.receipt import Receipt
from attnconf.gate.sealed import TamperedError, seal
from attnconf.policy.policy import parse_policy
from conformance.tests.support.gate_receipts import receipt_of
from conformance.tests.support.gate_repository import AFTER, FLEET

SHA = "0" * 40
PLAN = plan_fleet(parse_policy(AFTER, "after"), parse_fleet(FLEET, "fleet"), SHA)


def variants() -> list[Receipt]:
    """Return receipts of both jobs, some with and some without a digest; two are twins but for theirs."""
    made = [receipt_of(PLAN, job, seed=seed) for job in ("cpu", "b200") for seed in (0, 1)]
    return [*made, *(one.model_copy(update={"digest": one.identity}) for one in made)]


evidence = st.lists(st.sampled_from(variants()), max_size=6).map(evidence_of)


@given(evidence, evidence)
def test_merging_commutes(a: Evidence, b: Evidence) -> None:
    assert a | b == b | a


@given(evidence, evidence, evidence)
def test_merging_associates(a: Evidence, b: Evidence, c: Evidence) -> None:
    assert (a | b) | c == a | (b | c)


@given(evidence, evidence)
def test_merging_again_changes_nothing(a: Evidence, b: Evidence) -> None:
    assert a | a == a
    assert (a | b) | b == a | b
    assert a | Evidence() == a


@given(evidence, evidence)
def test_nothing_is_lost_and_nothing_is_sealed_on_the_way(a: Evidence, b: Evidence) -> None:
    parts = {one.identity for one in (*a.receipts, *b.receipts)}
    merged = a | b
    assert [one.identity for one in merged.receipts] == sorted(parts)
    sealed = {one.identity for one in (*a.receipts, *b.receipts) if one.digest is not None}
    assert {one.identity for one in merged.receipts if one.digest is not None} == sealed


@given(evidence)
def test_evidence_is_written_and_read_back(a: Evidence) -> None:
    text = json.dumps(a.to_data())
    assert parse_evidence(text, "test") == a.model_copy(update={"digest": a.identity})


def test_a_part_that_was_edited_is_noticed_though_the_whole_is_sealed_again() -> None:
    data = evidence_of(variants()[4:6]).to_data()
    data["receipts"][0]["seconds"] = 1.0
    data["digest"] = seal(data)
    with pytest.raises(TamperedError, match="edited after it was written"):
        parse_evidence(json.dumps(data), "test")
    data["receipts"] = data["receipts"][:1] * 2
    with pytest.raises(InvalidInputError):
        parse_evidence(json.dumps({**data, "digest": None}), "test")


ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1, 7, 10**30, 0.5, float("nan"), [], {}, "", "\x1b[31m\n", "\ud800", "inf", "9.0", "decode",
    "full", "cpu", "b200", "trtllm_mha", "triton", "0" * 40, "0" * 64, "x" * 9000,
)  # fmt: skip
