"""Receipts for tests of reports: small, with everything in them that a report must show."""

from __future__ import annotations

import math
from typing import Any

from attnconf.cases.case import Case, Layer
from attnconf.cases.request import Request
from attnconf.gate.cells import Cell
from attnconf.gate.failed_case import FailedCase
from attnconf.gate.receipt import PlatformRecord, PolicyRef, Receipt
from attnconf.judging.units import unit_bin
from attnconf.policy.policy import Policy, policy_digest

COUNTS = ("passed", "failed", "unsupported", "refused", "crashed", "oom", "not_run", "contract_only")
CPU = {"device": "cpu", "sm": None, "cuda": None, "driver": None}
H200 = {"device": "NVIDIA H200", "sm": "9.0", "cuda": "13.0", "driver": "580.1"}

TUESDAYS = {"unsupported: only on Tuesdays": 2}

CASE = Case(
    mode="decode",
    model="gemma4-e2b@tp2",
    layers=(Layer(kind="sliding", window_left=511, num_qo_heads=4, num_kv_heads=1, head_dim=256, sm_scale=1.0),),
    requests=(Request(prefix_len=3),),
)

POLICY = Policy.model_validate(
    {
        "schema": "attnconf.policy/1",
        "name": "toy",
        "provenance": {"engine": "toy", "version": "1", "file": "toy.py"},
        "backends": {"triton": {}, "trtllm_mha": {"sm": ["10.x"]}},
        "rules": [
            {"name": "blackwell", "architectures": ["Gemma4ForCausalLM"], "sm": ["10.x"], "backend": "trtllm_mha"},
            {"name": "otherwise", "architectures": ["Gemma4ForCausalLM"], "backend": "triton"},
        ],
        "required": [
            {
                "architectures": ["Gemma4ForCausalLM"],
                "models": ["gemma4-e2b"],
                "layer_kinds": ["sliding", "full"],
                "modes": ["decode", "extend"],
            }
        ],
    }
)
"""On a machine of any kind but SM 10.x triton must be proven in four cells."""


LENIENT = POLICY.model_validate(
    {
        **POLICY.to_data(),
        "name": "lenient",
        "strict": False,
        "required": [
            {
                **POLICY.to_data()["required"][0],
                "allow_unsupported": [{"layer_kinds": ["full"], "modes": ["decode"], "reason": "never asked"}],
            }
        ],
        "waivers": [
            {"modes": ["extend"], "issue": "owner/repository#7", "owner": "kernels", "expires": "2999-01-01"},
            {"modes": ["mixed"], "issue": "owner/repository#8", "owner": "kernels", "expires": "2999-01-01"},
        ],
        "claims": [
            {
                "rule": "blackwell",
                "metric": "speed",
                "at_least": 5,
                "baseline": "triton",
                "source": "owner/repository#9",
            }
        ],
    }
)
"""The same, of which only one cell must be proven: the others are waived, or may be declared unsupported."""


def a_cell(backend: str = "triton", layer_kind: str = "full", mode: str = "decode", **values: Any) -> Cell:  # noqa: ANN401 - fields
    counts = {name: values.pop(name, 0) for name in COUNTS}
    executed = counts["passed"] + counts["failed"] + counts["contract_only"]
    within = counts["passed"] + counts["contract_only"]
    worst = values.setdefault("worst_units", (2.0 if counts["failed"] else 0.45) if executed else None)
    bins = [0, 0, 0, 0, within, 0, 0, 0, 0, 0, counts["failed"]]
    if within and not counts["failed"]:
        bins[4] -= 1
        bins[unit_bin(worst)] += 1
    fields = {
        "backend": backend,
        "evidence": "contract" if counts["contract_only"] else "kernel",
        "model": "gemma4-e2b@tp2",
        "layer_kind": layer_kind,
        "mode": mode,
        "q_dtype": "bfloat16",
        "kv_dtype": "bfloat16",
        "features": ["paging"] if executed else [],
        "executed": executed,
        "histogram": bins if executed else [],
        "reasons": {},
    }
    return Cell.model_validate({**fields, **counts, **values})


def proven() -> list[Cell]:
    """Return what the policy asks of triton."""
    kinds, modes = ("sliding", "full"), ("decode", "extend")
    return [a_cell(layer_kind=kind, mode=mode, passed=3) for kind in kinds for mode in modes]


def a_failure(**values: Any) -> FailedCase:  # noqa: ANN401 - any field
    fields: dict[str, Any] = {
        "backend": "wrong",
        "case": CASE,
        "clauses": (2,),
        "worst_units": 21979.0,
        "text": "wrong fails case\n\n    error:  21979 \u00d7 the bound",
        "replay": f"attnconf replay /ci/runs/7/attnconf-failures/{CASE.id}-wrong.json --backend wrong",
    }
    return FailedCase.model_validate({**fields, **values})


def a_receipt(*cells: Cell, where: dict[str, Any] = CPU, **values: Any) -> Receipt:  # noqa: ANN401 - any field
    versions = {"python": "3.12.3", "torch": "2.11.0", "triton": "3.6.0", "flashinfer": None, "flashinfer_cubin": None}
    fields: dict[str, Any] = {
        "git_sha": "0123456789" * 4,
        "platform": PlatformRecord.model_validate({**where, **versions}),
        "policy": PolicyRef(name=POLICY.name, digest=policy_digest(POLICY)),
        "profile": "smoke",
        "seed": 0,
        "started": "2026-11-22T22:12:57+00:00",
        "seconds": 12.5,
        "cells": cells,
    }
    return Receipt.model_validate({**fields, **values})


def excused(**values: Any) -> Receipt:  # noqa: ANN401 - any field
    """Return a receipt that meets the lenient policy with one proven cell."""
    declined = {"unsupported: never asked": 3}
    return a_receipt(
        a_cell(layer_kind="sliding", passed=3), a_cell(layer_kind="full", unsupported=3, reasons=declined), **values
    )


def everything(**values: Any) -> Receipt:  # noqa: ANN401 - any field
    """Return a receipt with every kind of square: two of triton's four cells are proven."""
    return a_receipt(
        *proven()[:2],
        a_cell("wrong", "sliding", passed=1, failed=2, worst_units=21979.0),
        a_cell("wrong", "full", "extend", crashed=1, reasons={"crashed: RuntimeError: launch failed": 1}),
        a_cell("reference", passed=40, failed=0, worst_units=0.98),
        a_cell("trtllm_mha", contract_only=4),
        a_cell(
            "trtllm_mha",
            mode="verify",
            evidence="contract",
            unsupported=2,
            reasons={"unsupported: only on Tuesdays": 2},
        ),
        a_cell("trtllm_mha", not_run=7, reasons={"not_run: needs SM 10.x, this machine has no GPU": 7}),
        a_cell("reference", mode="verify", not_run=1, reasons={"not_run: a test ended": 1}),
        a_cell("nan", mode="mixed", failed=1, worst_units=math.inf),
        failures=values.pop("failures", (a_failure(),)),
        **values,
    )
