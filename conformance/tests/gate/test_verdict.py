"""Verdicts: what proves a default, and what only looks like a proof."""

from __future__ import annotations

from typing import Any

import pytest

from attnconf.gate.cells import Cell
from attnconf.gate.verdict import Verdict, reach_verdict
from attnconf.platforms import Platform
from attnconf.policy.policy import Policy, load_policy
from attnconf.policy.question import Question
from attnconf.policy.requirements import RequiredCell, merged
from attnconf.policy.resolution import resolve, resolve_all
from conformance.tests.support.toy_policy import CPU, TOY, cell, evidence, held, toy

POLICY = load_policy("sglang-gemma4")
DIFFUSION = "DiffusionGemmaForBlockDiffusion"


def gpu(sm: tuple[int, int], cuda: str | None = "13.0", flashinfer: str | None = "0.6.13") -> Platform:
    packages = {} if flashinfer is None else {"flashinfer-python": flashinfer}
    return Platform(device="test", sm=sm, cuda=cuda, packages=packages)


def wanted_on(platform: Platform) -> list[RequiredCell]:
    return list(dict.fromkeys(one for resolution in resolve_all(POLICY, platform) for one in resolution.required))


def verdict(cells: list[Cell], platform: Platform = CPU, **backends: str | None) -> Verdict:
    return reach_verdict(
        POLICY, resolve_all(POLICY, platform), cells, platform, {"triton": None, "trtllm_mha": None, **backends}
    )


def test_full_evidence_meets_the_policy_and_names_what_others_owe() -> None:
    judged = verdict([cell(wanted) for wanted in wanted_on(CPU)])
    assert judged.is_met
    (other,) = judged.elsewhere
    assert other.sentence.startswith("trtllm_mha needs a receipt from SM 10.x with CUDA >=12.8: 28 required cells for")
    assert other.architectures == tuple(name for name in POLICY.architectures if name != DIFFUSION)


def test_shared_kinds_are_asked_only_of_models_that_have_them() -> None:
    shared = {wanted.model for wanted in wanted_on(CPU) if wanted.layer_kind.endswith("-shared")}
    assert shared == {"gemma4-e2b", "gemma4-e4b"}
    assert len(wanted_on(CPU)) == 28


@pytest.mark.parametrize(
    ("change", "lack"),
    [
        ({"executed": 0, "passed": 0}, "0 layers passed, 1 needed"),
        ({"evidence": "contract", "passed": 0, "contract_only": 1}, "1 by contract only, which proves no kernel"),
        ({"executed": 2, "failed": 1}, "1 of its layers failed"),
        ({"oom": 1}, "1 of its layers failed"),
        ({"crashed": 2}, "2 of its layers failed"),
        ({"features": ["gqa"]}, "none in which window mattered"),
        ({"executed": 0, "passed": 0, "not_run": 3, "reasons": {"not_run: no GPU": 3}}, "(not_run: no GPU)"),
        ({"model": "gemma4-31b"}, "(no case asked)"),
        ({"backend": "reference"}, "(no case asked)"),
    ],
)
def test_a_cell_without_proof_is_unmet(change: dict[str, Any], lack: str) -> None:
    wanted = wanted_on(CPU)
    victim = next(one for one in wanted if (one.model, one.layer_kind) == ("gemma4-12b", "sliding"))
    cells = [cell(one) for one in wanted if one != victim] + [cell(victim, **change)]
    (unmet,) = verdict(cells).unmet
    assert (unmet.kind, unmet.backend, unmet.cell) == ("no_evidence", "triton", victim)
    assert unmet.sentence.startswith("triton gemma4-12b sliding decode is not proven: ")
    assert lack in unmet.sentence


def test_no_cells_leave_everything_unmet() -> None:
    assert len(verdict([]).unmet) == 28


def test_an_unavailable_default_is_unmet() -> None:
    cells = [cell(wanted) for wanted in wanted_on(CPU)]
    (unmet,) = verdict(cells, triton="no module triton").unmet
    assert (unmet.kind, unmet.sentence) == (
        "unavailable",
        "triton is the default here but unavailable: no module triton",
    )
    (unmet,) = reach_verdict(POLICY, resolve_all(POLICY, CPU), cells, CPU, {"reference": None}).unmet
    assert unmet.sentence.endswith("no backend of that name is registered, only reference")


def test_a_default_below_its_floor_is_unmet() -> None:
    platform = gpu((10, 0), flashinfer="0.6.9")
    (unmet,) = verdict([cell(wanted) for wanted in wanted_on(platform)], platform).unmet
    assert unmet.kind == "below_floor"
    assert unmet.sentence == "trtllm_mha needs flashinfer-python >=0.6.10.post1, found 0.6.9"


def test_nothing_proves_anything_for_a_simulated_platform() -> None:
    platform = gpu((10, 0)).model_copy(update={"simulated": True})
    judged = verdict([cell(wanted) for wanted in wanted_on(platform)], platform, trtllm_mha="no GPU")
    assert [unmet.kind for unmet in judged.unmet] == ["no_evidence", "no_evidence"]
    assert any(unmet.sentence.startswith("trtllm_mha needs a receipt from SM 10.0: none") for unmet in judged.unmet)


def test_a_refusal_is_unmet() -> None:
    judged = reach_verdict(POLICY, [resolve(POLICY, Question(architecture="Other"))], [], CPU, {})
    assert [unmet.kind for unmet in judged.unmet] == ["refused"]


def test_a_policy_that_requires_nothing_is_not_met() -> None:
    policy = Policy.from_data({**TOY, "required": []}, "toy")
    assert [one.kind for one in held(policy, []).unmet] == ["nothing_proven"]


def test_a_policy_that_refuses_everything_here_is_not_met() -> None:
    policy = toy(rules=[{"name": "r", "architectures": ["X"], "refuse": "no kernel"}])
    (unmet,) = held(policy, []).unmet
    assert (unmet.kind, unmet.sentence) == (
        "nothing_proven",
        "the policy refuses everything here, so nothing is proven",
    )


def test_nothing_required_of_a_simulated_platform_is_not_met() -> None:
    policy = Policy.from_data({**TOY, "required": []}, "toy")
    platform = gpu((10, 0)).model_copy(update={"simulated": True})
    assert not reach_verdict(policy, resolve_all(policy, platform), [], platform, {"a": None}).is_met


def test_a_cell_of_other_dtypes_proves_nothing() -> None:
    policy = toy(required={"dtypes": ["bfloat16", "bfloat16+float8_e4m3fn"], "modes": ["decode"]})
    fp8 = {"kv_dtype": "float8_e4m3fn"}
    plain, quantised = policy.all_required
    assert held(policy, [cell(plain), cell(quantised, **fp8)]).is_met
    (unmet,) = held(policy, [cell(plain)]).unmet
    assert (
        unmet.sentence
        == "a llama3-8b full decode bfloat16+float8_e4m3fn is not proven: 0 layers passed, 1 needed (no case asked)"
    )
    assert len(held(policy, [cell(plain, q_dtype="float16", kv_dtype="float16")]).unmet) == 2


@pytest.mark.parametrize(
    ("change", "lack"),
    [
        ({"effective": {"paging": 3}}, ""),
        ({"effective": {"paging": 2}}, "3 layers passed, but paging mattered in 2 layers only, 3 needed"),
        ({}, "3 layers passed, but paging mattered in 1 layer only, 3 needed"),
        ({"features": []}, "3 layers passed, but none in which paging mattered"),
    ],
)
def test_a_feature_must_matter_often_enough(change: dict[str, Any], lack: str) -> None:
    policy = toy(required={"modes": ["decode"], "effective": {"full": ["paging"]}, "effective_cases": 3})
    judged = held(policy, evidence(policy, decode={"executed": 3, "passed": 3, **change}))
    assert [one.sentence for one in judged.unmet] == (
        [f"a llama3-8b full decode is not proven: {lack}"] if lack else []
    )


def test_required_cells_have_stable_ids_and_the_strictest_demands() -> None:
    wide, narrow = toy(), toy(required={"executed": 5, "effective": {"full": ["gqa"]}, "effective_cases": 2})
    assert [one.id for one in wide.all_required] == [
        f"a/llama3-8b/full/{mode}/any" for mode in ("decode", "extend", "verify")
    ]
    both = merged([*wide.all_required, *narrow.all_required])
    assert [one.id for one in both] == [one.id for one in wide.all_required]
    assert {(one.executed, one.effective, one.effective_cases) for one in both} == {(5, ("gqa",), 2)}


def test_a_requirement_may_bind_one_rule() -> None:
    rules = [{"name": "far", "architectures": ["X"], "sm": ["10.x"], "backend": "b"}, *TOY["rules"]]
    policy = toy(rules=rules, required={"rules": ["far"]})
    assert {one.backend for one in policy.all_required} == {"b"}


def test_an_engines_own_backend_is_required_by_its_own_name() -> None:
    block = TOY["required"][0]
    policy = Policy.from_data({**TOY, "required": [block, {**block, "engine": "e", "modes": ["decode"]}]}, "toy")
    cells = evidence(policy)
    assert [one.backend for one in cells] == ["a", "a", "a", "e:a"]
    assert held(policy, cells).is_met
    contract = cell(policy.all_required[-1], backend="e:a", evidence="contract", passed=0, contract_only=1)
    for lacking in (cells[:-1], [*cells[:-1], contract]):
        (unmet,) = held(policy, lacking).unmet
        assert unmet.sentence.startswith("e:a llama3-8b full decode is not proven: ")
