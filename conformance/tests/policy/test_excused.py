"""What excuses a missing proof: waivers, declared refusals that a policy allows; and claims, which prove nothing."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from attnconf.gate.verdict import reach_verdict
from attnconf.policy.policy import load_policy
from attnconf.policy.resolution import resolve_all
from attnconf.report.terminal import verdict_lines
from conformance.tests.support.toy_policy import CPU, TOY, WAIVER, evidence, held, toy

NOTHING = {"executed": 0, "passed": 0}
DECLINED = {**NOTHING, "unsupported": 3, "reasons": {"unsupported: q_len above 1": 3}}


def test_a_waiver_excuses_a_cell_until_its_last_day() -> None:
    policy = toy(waivers=[WAIVER])
    cells = evidence(policy, verify={"executed": 1, "passed": 0, "failed": 1})
    judged = held(policy, cells)
    assert judged.is_met
    (waived,) = judged.waived
    assert waived.sentence == (
        "a llama3-8b full verify is not proven (1 of its layers failed),"
        " under the waiver of a/b#7 (kernels, until 2026-11-22)"
    )
    sentences = [one.sentence for one in held(policy, cells, dt.date(2026, 11, 23)).unmet]
    assert sentences == [
        "a llama3-8b full verify is not proven: 1 of its layers failed",
        "the waiver of a/b#7 (kernels, until 2026-11-22) has expired",
    ]


def test_a_waived_cell_that_passes_fails_a_strict_policy() -> None:
    sentence = (
        "a llama3-8b full verify is proven, so the waiver of a/b#7 (kernels, until 2026-11-22) must no longer select it"
    )
    strict, loose = toy(waivers=[WAIVER]), toy(waivers=[WAIVER], strict=False)
    assert [(one.kind, one.sentence) for one in held(strict, evidence(strict)).unmet] == [("waiver", sentence)]
    judged = held(loose, evidence(loose))
    assert (judged.is_met, judged.notes) == (True, (sentence,))


def test_a_waiver_that_matches_nothing_fails_a_strict_policy() -> None:
    waiver = {**WAIVER, "modes": ["mixed"]}
    sentence = "the waiver of a/b#7 (kernels, until 2026-11-22) selects no required cell"
    strict, loose = toy(waivers=[waiver]), toy(waivers=[waiver], strict=False)
    assert [one.sentence for one in held(strict, evidence(strict)).unmet] == [sentence]
    assert held(loose, evidence(loose)).notes == (sentence,)


def test_a_waiver_for_another_platform_is_matched() -> None:
    rules = [{"name": "far", "architectures": ["X"], "sm": ["10.x"], "backend": "b"}, *TOY["rules"]]
    policy = toy(rules=rules, waivers=[{**WAIVER, "backends": ["b"]}])
    assert held(policy, evidence(policy)).is_met


@pytest.mark.parametrize("change", [None, NOTHING, DECLINED])
def test_waiving_every_cell_proves_nothing(change: dict[str, Any] | None) -> None:
    policy = toy(waivers=[{**WAIVER, "modes": [], "models": ["llama3-8b"]}])
    (unmet,) = held(policy, evidence(policy, decode=change, extend=change, verify=change)).unmet
    assert (unmet.kind, unmet.backend) == ("nothing_proven", "a")
    assert unmet.sentence == "X on no GPU: a, by rule r: not one required cell of a is proven"


def test_declared_unsupported_counts_only_where_it_is_allowed() -> None:
    allowance = {"modes": ["verify"], "reason": "the engine never verifies with it"}
    policy, silent = toy(required={"allow_unsupported": [allowance]}), toy()
    judged = held(policy, evidence(policy, verify=DECLINED))
    assert judged.is_met
    assert [one.sentence for one in judged.unsupported] == [
        "a llama3-8b full verify is declared unsupported, as the policy allows: the engine never verifies with it"
    ]
    assert not held(silent, evidence(silent, verify=DECLINED)).is_met
    for change in (
        None,
        NOTHING,
        {**DECLINED, "not_run": 1},
        {**DECLINED, "crashed": 1},
        {**DECLINED, "executed": 1, "failed": 1},
    ):
        assert not held(policy, evidence(policy, verify=change)).is_met
    assert not held(policy, evidence(policy, decode=DECLINED)).is_met


def test_an_allowance_of_all_cells_proves_nothing() -> None:
    policy = toy(required={"allow_unsupported": [{"reason": "whatever"}]})
    judged = held(policy, evidence(policy, decode=DECLINED, extend=DECLINED, verify=DECLINED))
    assert [one.kind for one in judged.unmet] == ["nothing_proven"]


def test_a_claim_is_shown_and_never_met() -> None:
    shipped = load_policy("sglang-gemma4")
    assert reach_verdict(shipped, resolve_all(shipped, CPU), [], CPU, {}).claims == (
        (
            "claimed, not measured here: rule sm100 gains 13 to 22 % in end-to-end throughput over triton"
            " (sgl-project/sglang#25006)"
        ),
    )
    claims = [{"rule": "r", "metric": "speed", "at_least": 5, "baseline": "b", "source": "a/b#1"}]
    policy = toy(claims=claims)
    assert held(policy, []).unmet == held(toy(), []).unmet
    assert "gains 5 % or more in speed over b" in held(policy, []).claims[0]


def test_a_report_shows_what_is_excused_and_what_is_only_claimed() -> None:
    claims = [{"rule": "r", "metric": "speed", "at_least": 5, "baseline": "b", "source": "a/b#1"}]
    allowed = {"allow_unsupported": [{"modes": ["extend"], "reason": "never asked"}]}
    policy = toy(waivers=[WAIVER], claims=claims, required=allowed)
    lines = verdict_lines(policy, held(policy, evidence(policy, verify=None, extend=DECLINED)))
    assert lines == [
        "policy toy is met on this platform",
        (
            "waived: a llama3-8b full verify is not proven (0 layers passed, 1 needed (no case asked)),"
            " under the waiver of a/b#7 (kernels, until 2026-11-22)"
        ),
        "unsupported: a llama3-8b full extend is declared unsupported, as the policy allows: never asked",
        "claimed, not measured here: rule r gains 5 % or more in speed over b (a/b#1)",
    ]
    loose = toy(waivers=[WAIVER], strict=False)
    assert "note: a llama3-8b full verify is proven, so " in verdict_lines(loose, held(loose, evidence(loose)))[1]
