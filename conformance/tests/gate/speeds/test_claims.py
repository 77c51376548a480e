"""Claims of a policy: proven by what was measured for this commit on this platform, and by nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from attnconf.cli import main as cli
from attnconf.gate.provider import Provider, Source
from attnconf.gate.receipt import Receipt
from attnconf.gate.speeds.claims import JudgedClaim, SpeedEvidence, judge_claims
from attnconf.gate.speeds.paired import Paired, pair_files
from attnconf.policy.policy import Policy, load_policy
from conformance.tests.support.simulated_clock import SimulatedClock
from conformance.tests.support.speed_receipts import H200, SHA, speed_cell, speed_receipt

CLAIM: dict[str, Any] = {
    "rule": "hopper",
    "metric": "speed of its kernel",
    "measure": "kernel",
    "over": "triton",
    "at_least": 13,
    "at_most": 22,
    "evidence": "paired",
    "source": "a/b#1",
}
SERVED = {**CLAIM, "metric": "throughput", "measure": "end to end", "field": "output_throughput"}


def policy(*claims: dict[str, Any], modes: tuple[str, ...] = ("decode",)) -> Policy:
    return Policy.from_data(
        {
            "schema": "attnconf.policy/1",
            "name": "toy",
            "provenance": {"engine": "e", "version": "1", "file": "f"},
            "backends": {"triton": {}, "trtllm_mha": {}},
            "rules": [
                {"name": "hopper", "architectures": ["X"], "sm": ["9.0"], "backend": "trtllm_mha"},
                {"name": "otherwise", "architectures": ["X"], "backend": "triton"},
            ],
            "required": [
                {"architectures": ["X"], "models": ["gemma4-e2b"], "layer_kinds": ["full"], "modes": list(modes)}
            ],
            "claims": list(claims),
        },
        "toy",
    )


def judged(claim: dict[str, Any], *speeds: Any, paired: Paired | None = None, **how: Any) -> JudgedClaim:  # noqa: ANN401 - receipts
    named = {f"{index}.json": one for index, one in enumerate(speeds)}
    evidence = SpeedEvidence(named, {} if paired is None else {"paired.json": paired})
    (found,) = judge_claims(policy(claim, **how), evidence, SHA)
    return found


@pytest.mark.parametrize(
    ("speedup", "standing"), [(1.17, "proven"), (1.4, "at least"), (1.02, "refuted"), (1.13, "undecided")]
)
def test_a_claim_of_kernels_is_judged_by_the_cells_of_its_rule(speedup: float, standing: str) -> None:
    found = judged(CLAIM, speed_receipt(speed_cell(speedup, noisy_seed(speedup))))
    assert found.standing == standing, found.why
    assert found.why[0].startswith("gemma4-e2b full decode bfloat16, 64 requests of 2000 to 4000 keys: +")
    assert found.is_proven == (standing in {"proven", "at least"})
    assert not found.fails
    assert judged({**CLAIM, "unproven": "fail"}, speed_receipt(speed_cell(speedup))).fails != found.is_proven


def noisy_seed(speedup: float) -> int:
    return round(100 * speedup)


def test_every_cell_must_be_timed_and_the_worst_one_stands() -> None:
    found = judged(CLAIM, speed_receipt(speed_cell(1.17)), modes=("decode", "extend"))
    assert found.standing == "undecided"
    assert found.why[0] == "trtllm_mha gemma4-e2b full extend over triton was not timed"
    both = speed_receipt(speed_cell(1.17), speed_cell(0.9, mode="extend"))
    assert judged(CLAIM, both, modes=("decode", "extend")).standing == "refuted"
    assert judged({**CLAIM, "modes": ["decode"]}, both, modes=("decode", "extend")).standing == "proven"
    assert judged({**CLAIM, "modes": ["verify"]}, both).why == ("it selects no required cell of its rule",)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"git_sha": "f" * 40}, "is of commit ffff"),
        ({"attnconf": "0.0.1"}, "was written by attnconf 0.0.1"),
        ({"platform": H200.model_copy(update={"simulated": True})}, "is of a SIMULATED machine"),
        ({"platform": H200.model_copy(update={"sm": "8.9"})}, "rule hopper does not decide on NVIDIA H200, SM 8.9"),
        ({"planted": 5.0}, "its candidates were slowed down on purpose"),
    ],
)
def test_what_does_not_count_proves_nothing_and_says_why(fields: dict[str, Any], why: str) -> None:
    found = judged(CLAIM, speed_receipt(speed_cell(1.17), **fields))
    assert found.standing == "undecided"
    assert found.why[0] == "trtllm_mha gemma4-e2b full decode over triton was not timed"
    assert found.why[1].startswith(f"0.json does not count: {why}")


def test_a_control_that_differs_and_a_contract_prove_nothing() -> None:
    void = speed_cell(1.17, control=SimulatedClock(speedup=0.96).blocks(4))
    assert "so the run is void" in judged(CLAIM, speed_receipt(void)).why[1]
    reading = speed_cell(1.17)
    side = reading.candidate.model_copy(update={"evidence": "contract"})
    found = judged(CLAIM, speed_receipt(speed_cell(1.17, candidate=side)))
    assert found.standing == "undecided"
    assert "does not show that trtllm_mha[contract] is right there" in found.why[1]


def test_a_kernel_of_a_stranger_proves_nothing() -> None:
    receipt = speed_receipt(speed_cell(1.17))
    right = receipt.correctness
    file = Provider(sources=(Source(path="conftest.py", sha256=None, committed=False),))
    for providers, why in (
        ({**right.providers, "triton": file}, "triton comes from conftest.py, which the commit does not contain"),
        ({"triton": right.providers["triton"]}, "nothing says who provided trtllm_mha"),
    ):
        other = Receipt.from_data(right.model_copy(update={"providers": providers, "digest": None}).to_data(), "r")
        found = judged(CLAIM, speed_receipt(speed_cell(1.17), correctness=other))
        assert found.standing == "undecided"
        assert found.why[1].startswith(f"0.json does not count: {why}")


def test_a_single_run_is_shown_and_never_judged() -> None:
    found = judged({**SERVED, "evidence": "single run"}, speed_receipt(speed_cell(1.17)))
    assert found.standing == "a single run"
    assert not found.fails
    assert found.sentence == (
        "claimed of a single run, which proves nothing: rule hopper gains 13 to 22 % in throughput over triton (a/b#1)"
    )
    (shipped,) = judge_claims(load_policy("sglang-gemma4"), SpeedEvidence({}, {}), SHA)
    assert shipped.standing == "a single run"


def _served(folder: Path, throughputs: str, order: str = "ABBAAB", **changed: Any) -> Paired:  # noqa: ANN401 - any field
    files = []
    for index, throughput in enumerate(map(float, throughputs.split())):
        data = {
            "date": f"20261129-01000{index}", "backend": "vllm", "num_prompts": 100, "completed": 100, "failed": 0,
            "total_input_tokens": 5000, "total_output_tokens": 800, "output_throughput": throughput,
            "mean_ttft_ms": 1e5 / throughput, **(changed if index == 0 else {}),
        }  # fmt: skip
        files.append(folder / f"{index}.json")
        files[-1].write_text(json.dumps(data), encoding="utf-8")
    made = pair_files(files, order, candidate="trtllm_mha", over="triton", git_sha=SHA)
    return Paired.from_data(made.to_data(), "paired")


def test_serving_is_proven_by_pairs_alone_and_a_ratio_of_kernels_says_so(tmp_path: Path) -> None:
    gain = _served(tmp_path, "1170 1000 1001 1176 1168 999")
    assert judged(SERVED, paired=gain).standing == "proven"
    assert judged({**SERVED, "field": "mean_ttft_ms"}, paired=gain).standing == "proven"
    kernels = judged(SERVED, speed_receipt(speed_cell(1.17)))
    assert kernels.standing == "undecided"
    assert kernels.why == (
        "no paired serving results of trtllm_mha over triton count",
        "speed receipts are of kernels, which are a part of a step: they cannot prove this claim",
    )
    assert judged(SERVED, paired=_served(tmp_path, "1040 1000 1000 1050 1045 1000")).standing == "refuted"
    assert judged({**SERVED, "field": "p99_itl_ms"}, paired=gain).why[0].endswith("is not reported by every run")


def test_pairs_that_are_too_few_or_no_pairs_prove_nothing(tmp_path: Path) -> None:
    two = judged(SERVED, paired=_served(tmp_path, "1170 1000 1000 1170", "ABBA"))
    assert two.standing == "undecided"
    assert two.why[0].endswith("it was run in 2 pairs, and 3 are needed")
    speeds = "1170 1000 1001 1176 1168 999"
    for wrong, why in (
        (_served(tmp_path, speeds, completed=99), "does not pass verify-requests"),
        (_served(tmp_path, speeds, total_input_tokens=4000), "are no pair: 100 requests with 4000"),
        (_served(tmp_path, "1170 1000 1176 1001 1168 999", "ABABAB"), "A ran first in every pair"),
        (_served(tmp_path, speeds, date="20271129-010000"), "not in the order of their dates"),
    ):
        found = judged(SERVED, paired=wrong)
        assert found.standing == "undecided"
        assert any(why in text for text in found.why), found.why
    with pytest.raises(Exception, match="in pairs of A and B, such as ABBAAB, not AABB"):
        _served(tmp_path, "1 2 3 4", "AABB")


def test_the_command_pairs_files_in_the_order_in_which_they_ran(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _served(tmp_path, "1170 1000 1001 1176 1168 999")
    files = [str(tmp_path / f"{index}.json") for index in range(6)]
    output = str(tmp_path / "paired.json")
    sides = ["--candidate", "trtllm_mha", "--over", "triton", "-o", output]
    assert cli.main(["paired", *files, *sides]) == 0
    out = capsys.readouterr().out
    assert "paired.json: 3 pairs of trtllm_mha over triton" in out
    assert "output_throughput: +17.1 % faster (" in out
    assert Paired.read(Path(output)).digest is not None
    assert cli.main(["paired", *files[:4], *sides, "--order", "ABC"]) == 2
    assert "--order" in capsys.readouterr().err
