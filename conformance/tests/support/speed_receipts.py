"""Speed receipts of a simulated clock, for tests: no kernel was timed for any of them.

``python -m conformance.tests.support.speed_receipts`` writes ``fixtures/simulated/speed.json`` anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attnconf.gate.receipt import PlatformRecord, Receipt
from attnconf.gate.speeds.cell import Side, SpeedCell
from attnconf.gate.speeds.speed_receipt import Ceilings, Clocks, Process, SpeedReceipt
from conformance.tests.support.gate_receipts import ATTNCONF
from conformance.tests.support.receipts import a_cell
from conformance.tests.support.simulated_clock import SimulatedClock

RECORDED = Path(__file__).parents[3] / "fixtures" / "simulated" / "speed.json"
SHA = "0123456789" * 4
H200 = PlatformRecord(
    device="NVIDIA H200", sm="9.0", cuda="13.0", driver="580.1", python="3.12.3", torch="2.11.0", triton="3.6.0",
    flashinfer="0.6.18.post1", flashinfer_cubin=None,
)  # fmt: skip
CALM = Clocks(readings=40, sm_mhz=(1965, 1980), memory_mhz=(3201, 3201), watts=480.0, celsius=54)
HOUR = "2026-11-29T01:00:00+00:00"


def speed_cell(speedup: float = 1.2, seed: int = 1, processes: int = 5, **fields: Any) -> SpeedCell:  # noqa: ANN401 - any field
    """Return a cell whose candidate is ``speedup`` as fast as its baseline, by a simulated clock."""
    same = SimulatedClock()
    data = {
        "case": f"{seed:012x}",
        "layer": 0,
        "load": "64 requests of 2000 to 4000 keys",
        "model": "gemma4-e2b",
        "layer_kind": "full",
        "mode": "decode",
        "q_dtype": "bfloat16",
        "kv_dtype": "bfloat16",
        "candidate": Side(backend="trtllm_mha", kernels=("xqa",), judged=("xqa",), prepare_micros=410.0),
        "baseline": Side(backend="triton", kernels=("_decode",), judged=("_decode",), prepare_micros=120.0),
        "bytes": 190_000_000,
        "operations": 1_500_000_000,
        "launches": 20,
        "cold": SimulatedClock(speedup=speedup).blocks(seed, processes=processes, micros=90.0),
        "warm": SimulatedClock(speedup=speedup).blocks(seed + 1000, processes=processes, micros=80.0),
        "control": same.blocks(seed + 2000, processes=processes, micros=90.0),
    }
    return SpeedCell.model_validate({**data, **fields})


def speed_receipt(*cells: SpeedCell, **fields: Any) -> SpeedReceipt:  # noqa: ANN401 - any field
    """Return a receipt of an H200 with the cells, whose kernels are all right."""
    platform = fields.get("platform", H200)
    sha = fields.get("git_sha", SHA)
    most = max((len(cell.cold) for cell in cells), default=0)
    data = {
        "git_sha": sha,
        "platform": platform,
        "started": HOUR,
        "seconds": 61.5,
        "seed": 1,
        "l2_bytes": 60 * 2**20,
        "cold_bytes": 240 * 2**20,
        "processes": [Process(seconds=12.0, clocks=CALM)] * most,
        "ceilings": Ceilings(bytes=4.1e12, operations={"bfloat16": 7.1e14}),
        "cells": cells,
        "correctness": correctness(cells, platform, sha),
    }
    return SpeedReceipt.from_data(SpeedReceipt.model_validate({**data, **fields}).to_data(), "test")


def correctness(cells: tuple[SpeedCell, ...], platform: PlatformRecord, sha: str | None) -> Receipt:
    """Return a receipt that says that each side of the cells is right."""
    sides = {
        (side.backend, side.evidence, one.model, one.layer_kind, one.mode)
        for one in cells
        for side in (one.candidate, one.baseline)
    }
    judged = tuple(
        a_cell(name, kind, mode, model=model, **{"passed" if evidence == "kernel" else "contract_only": 2})
        for name, evidence, model, kind, mode in sorted(sides)
    )
    found = Receipt(
        git_sha=sha, platform=platform, policy=None, profile="bench", seed=1, started=HOUR, seconds=3.0, cells=judged,
        exit_status=0, providers={name: ATTNCONF for name, *_ in sorted(sides)},
    )  # fmt: skip
    return Receipt.from_data(found.to_data(), "test")


def recorded() -> SpeedReceipt:
    """Return what is in the recorded file: three cells of a machine that is labelled as simulated."""
    simulated = H200.model_copy(update={"device": "simulated clock", "simulated": True})
    return speed_receipt(
        speed_cell(1.19, 1),
        speed_cell(0.95, 2, layer_kind="sliding", bytes=40_000_000),
        speed_cell(1.0, 3, mode="extend", load="2048 new tokens behind 301", operations=40_000_000_000),
        platform=simulated,
        left_out=("gemma4-e2b verify: trtllm_mha declares it unsupported: q_len > 1 on SM 9.0",),
    )


if __name__ == "__main__":
    recorded().write(RECORDED)
