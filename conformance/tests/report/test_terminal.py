"""The terminal's lines: header, matrix, verdict."""

from __future__ import annotations

import math

import pytest

from attnconf.cases.drawing.profiles import profile_named
from attnconf.errors import BackendUnavailableError
from attnconf.gate.cells import Cell
from attnconf.gate.verdict import reach_verdict
from attnconf.platforms import Platform, simulate
from attnconf.policy.policy import load_policy
from attnconf.policy.resolution import resolve_all
from attnconf.report.terminal import WIDTH, _folded, matrix_lines, verdict_lines
from attnconf.running.header import header_lines
from attnconf.running.session import Session

COUNTS = ("passed", "failed", "unsupported", "refused", "crashed", "oom", "not_run", "contract_only")


def a_cell(backend: str = "toy", mode: str = "decode", model: str = "m", **values: object) -> Cell:
    """Return a cell of the given counts, other fields as they may be."""
    counts = {name: int(str(values.pop(name, 0))) for name in COUNTS}
    executed = counts["passed"] + counts["failed"] + counts["contract_only"]
    fields: dict[str, object] = {"features": (), "worst_units": 0.5 if executed else None, "reasons": {}} | values
    key = {"backend": backend, "model": model, "layer_kind": "full", "mode": mode}
    return Cell.model_validate(
        {**key, "q_dtype": "float16", "kv_dtype": "float16", "executed": executed, **counts, **fields}
    )


def columns(line: str) -> list[str]:
    """Return the words of a line."""
    return line.split()


def test_one_row_a_backend_model_and_kind_with_shards_and_dtypes_together() -> None:
    cells = [
        a_cell(model="m@tp4", passed=3, features=("window",)),
        a_cell(model="m", passed=2, features=("paging",), worst_units=0.75),
        a_cell(model="m", mode="extend", evidence="contract", contract_only=4),
    ]
    lines = matrix_lines(cells, cases=7)
    assert columns(lines[1]) == ["toy", "m", "full", "5", "-", "-", "-", "0.75", "paging,window"]
    assert columns(lines[2]) == ["toy[contract]", "m", "full", "-", "4c?", "-", "-", "0.50", "none"]
    assert lines[3:] == [
        "7 cases executed, 9 layers judged (4 of them by contract only), 0 broken",
        "?: no feature mattered, so no mistake would have shown: no evidence",
    ]


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        ({"passed": 1, "failed": 2, "crashed": 1}, ["3", "BAD", "3"]),
        ({"crashed": 1}, ["0", "BAD", "1"]),
        ({"oom": 1, "not_run": 5}, ["0", "BAD", "1"]),
        ({"unsupported": 1, "not_run": 2}, ["not_run"]),
        ({"unsupported": 2}, ["unsup."]),
    ],
)
def test_what_is_not_a_pass_does_not_look_like_one(counts: dict[str, int], shown: list[str]) -> None:
    row = matrix_lines([a_cell(**counts)])[1]
    assert columns(row)[3 : 3 + len(shown)] == shown


def test_a_backend_that_ran_nowhere_is_one_row() -> None:
    cells = [a_cell("asleep", model=model, mode=mode, not_run=2) for model in "abc" for mode in ("decode", "verify")]
    lines = matrix_lines([*cells, a_cell(passed=1)])
    assert [columns(line) for line in lines[1:3]] == [
        ["asleep", "(all)", "(all)", "not_run", "-", "-", "not_run", "-", "none"],
        ["toy", "m", "full", "1?", "-", "-", "-", "0.50", "none"],
    ]


def test_an_output_that_is_not_finite_is_inf() -> None:
    assert "inf" in columns(matrix_lines([a_cell(failed=1, worst_units=math.inf)])[1])


def test_one_case_is_singular_and_an_unknown_number_unsaid() -> None:
    one = a_cell(passed=1, features=("paging",))
    assert matrix_lines([one], cases=1)[-1].startswith("1 case executed, 1 layer judged")
    assert matrix_lines([one])[-1].startswith("1 layer judged")
    assert matrix_lines([]) == []


def test_reasons_stand_below_the_most_frequent_first_and_the_rest_counted() -> None:
    reasons = {f"unsupported: reason {i}": i for i in range(1, 8)}
    lines = matrix_lines([a_cell(unsupported=28, reasons=reasons)])[3:]
    assert lines == [
        *(f"toy: {i} layers unsupported: reason {i}" for i in (7, 6, 5, 4)),
        "toy: 6 layers for 3 other reasons (see the receipt)",
    ]


def a_session(platform: Platform) -> Session:
    """Return a session with a backend that is missing."""
    session = Session(platform=platform, profile=profile_named("smoke"), seed=3)

    def make(platform: Platform) -> object:
        del platform
        message = "needs libfoo"
        raise BackendUnavailableError(message)

    session.registry.register("missing", make)  # type: ignore[arg-type]
    return session


def test_the_header_says_machine_profile_and_backends() -> None:
    lines = header_lines(a_session(Platform(packages={"torch": "2.9"})), ("reference", "missing"), None)
    assert lines == [
        "attnconf: no GPU; torch 2.9, triton missing, flashinfer-python missing, flashinfer-cubin missing",
        "attnconf: profile smoke, seed 3",
        "attnconf: backend reference",
        "attnconf: backend missing: missing: needs libfoo",
    ]


def test_the_header_names_a_gpu() -> None:
    platform = Platform(device="B200", sm=(10, 0), cuda="13.0", driver="580.1")
    assert header_lines(a_session(platform), (), None)[0].startswith(
        "attnconf: B200, SM 10.0, driver 580.1, CUDA 13.0; "
    )


def test_the_policy_is_resolved_for_the_simulated_platform() -> None:
    policy, session = load_policy("sglang-gemma4"), a_session(Platform())
    here = "\n".join(header_lines(session, (), policy))
    there = "\n".join(header_lines(session, (), policy, simulate("10.0")))
    assert "Gemma4ForCausalLM on a machine without a GPU: triton" in here or ": triton, by rule otherwise" in here
    assert ": trtllm_mha, by rule sm100" in there
    assert "rule sm100" not in here


def test_the_verdict_says_whether_the_policy_is_met() -> None:
    policy, platform = load_policy("sglang-gemma4"), Platform()
    verdict = reach_verdict(policy, resolve_all(policy, platform), [], platform, {"triton": None})
    lines = verdict_lines(policy, verdict)
    assert lines[0] == f"policy sglang-gemma4 is NOT met: {len(verdict.unmet)} requirements"
    assert len(verdict.unmet) > 10
    assert any(line.startswith("elsewhere: trtllm_mha needs a receipt from SM 10.x") for line in lines)
    assert verdict_lines(None, None) == []


def test_a_command_of_a_ci_that_wrapping_puts_at_the_start_of_a_line_is_none() -> None:
    first, second = _folded(f"{'x' * (WIDTH - 5)} ::error::forged")
    assert first.startswith("x")
    assert second.strip() == "\\x3a:error::forged"
