"""Plans: what runs here, what is blocked, and what other platforms owe."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from attnconf.gate.plans.machine_plan import plan
from attnconf.platforms import Platform
from attnconf.policy.policy import load_policy
from attnconf.policy.question import UserChoice

POLICY = load_policy("sglang-gemma4")
SM100 = Platform(device="B200", sm=(10, 0), cuda="13.0", packages={"flashinfer-python": "0.6.13"})
SIMULATED = SM100.model_copy(update={"simulated": True})
WORKING = {"triton": None, "trtllm_mha": None}


@pytest.mark.parametrize(("platform", "backends"), [(SM100, WORKING), (SIMULATED, None)])
def test_sm100_runs_both_backends(platform: Platform, backends: dict[str, str | None] | None) -> None:
    made = plan(POLICY, platform, backends=backends)
    assert not any(one.blocked for one in made.here)
    assert sum(one.cell.backend == "trtllm_mha" for one in made.here) == 28
    assert sum(one.cell.backend == "triton" for one in made.here) == 4
    assert [(one.rule, one.where) for one in made.elsewhere] == [("otherwise", "a platform that no earlier rule takes")]


def test_a_cpu_runs_triton_and_names_who_must_run_the_rest() -> None:
    made = plan(POLICY, Platform(), backends={"triton": None})
    assert {one.cell.backend for one in made.here} == {"triton"}
    assert [(one.rule, one.where, len(one.cells)) for one in made.elsewhere] == [
        ("sm100", "SM 10.x with CUDA >=12.8", 28)
    ]
    assert "28 of 28 required cells can run on this platform" in "\n".join(made.lines)
    assert "trtllm_mha needs a receipt from SM 10.x with CUDA >=12.8" in "\n".join(made.lines)


def test_a_floor_blocks() -> None:
    made = plan(POLICY, SM100.model_copy(update={"packages": {}}))
    blocked = {one.cell.backend: one.blocked for one in made.here}
    assert blocked == {"triton": "", "trtllm_mha": "trtllm_mha needs flashinfer-python >=0.6.10.post1, found none"}
    assert "28 blocked here: trtllm_mha needs flashinfer-python" in "\n".join(made.lines)


def test_a_missing_backend_blocks() -> None:
    made = plan(POLICY, SM100, backends={"triton": "no module triton"})
    assert {one.cell.backend: one.blocked for one in made.here} == {
        "triton": "triton is unavailable: no module triton",
        "trtllm_mha": "trtllm_mha is unavailable: no backend of that name is registered",
    }


def test_the_user_s_split_choice_is_planned_for() -> None:
    made = plan(POLICY, SM100, user_choice=UserChoice(decode="fa4"))
    sides = {(one.cell.backend, one.cell.mode) for one in made.here}
    assert sides == {("trtllm_mha", "extend"), ("triton", "extend"), ("fa4", "decode")}


def test_a_cell_without_a_listed_kernel_can_be_executed_nowhere() -> None:
    """On FlashInfer 0.6.13 no prefill kernel reads 8-bit KV under a 16-bit query."""
    required = POLICY.required[0].model_copy(update={"dtypes": ("bfloat16", "bfloat16+float8_e4m3fn")})
    policy = POLICY.model_copy(update={"required": (required, *POLICY.required[1:])})
    at = {"packages": {"flashinfer-python": "0.6.13"}}
    made = plan(policy, SM100.model_copy(update=at))
    lacking = [one.cell for one in made.here if one.nowhere]
    assert {(cell.backend, cell.mode, cell.dtypes) for cell in lacking} == {
        ("trtllm_mha", "extend", "bfloat16+float8_e4m3fn")
    }
    assert len(made.nowhere) == len(lacking)
    assert (
        "can be executed nowhere: trtllm-gen of flashinfer-python 0.6.13 has no such kernel (qkvLayout=2,"
        in (made.nowhere[0])
    )
    assert plan(policy, SM100.model_copy(update={"packages": {"flashinfer-python": "0.7.4"}})).nowhere == ()
    assert plan(POLICY, SM100.model_copy(update=at)).nowhere == ()


def test_json_is_whole_and_plain() -> None:
    made = plan(POLICY, SIMULATED)
    data = json.loads(json.dumps(made.to_data(), allow_nan=False))
    assert data.keys() == {"policy", "platform", "resolutions", "here", "elsewhere", "unprovable"}
    assert len(data["here"]) == 32
    assert data["here"][0].keys() == {"cell", "blocked", "undrawn", "nowhere"}
    assert data["elsewhere"][0]["sentence"] in "\n".join(made.lines)
    assert all(one["sentence"] in "\n".join(made.lines) for one in data["resolutions"])


def test_planning_imports_no_torch() -> None:
    code = (
        "import sys, attnconf.gate.plans.machine_plan, attnconf.report.schemas\n"
        "import attnconf.cases.models, attnconf.gate.receipt\n"
        "from attnconf.platforms import simulate\n"
        "from attnconf.policy.policy import load_policy\n"
        "attnconf.gate.plans.machine_plan.plan(load_policy('sglang-gemma4'), simulate('10.0')).lines\n"
        "assert 'torch' not in sys.modules and 'pytest' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 - our own interpreter
