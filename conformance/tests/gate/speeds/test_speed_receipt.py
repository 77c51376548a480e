"""Speed receipts: what they hold, what voids them, and what an older one is held against."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from attnconf.cli import main as cli
from attnconf.errors import InvalidInputError
from attnconf.gate.sealed import TamperedError
from attnconf.gate.speeds.compared import speed_changes
from attnconf.gate.speeds.speed_receipt import Process, SpeedReceipt, parse_speed
from attnconf.report.schemas import schemas
from attnconf.speeds.verdicts import difference
from conformance.tests.support.simulated_clock import SimulatedClock
from conformance.tests.support.speed_receipts import (
    CALM,
    H200,
    RECORDED,
    correctness,
    recorded,
    speed_cell,
    speed_receipt,
)


def test_the_recorded_file_is_current_valid_and_labelled_as_simulated() -> None:
    text = RECORDED.read_text(encoding="utf-8")
    found = parse_speed(text, "recorded")
    # a cell of the correctness receipt may have got fields since: what was written before is still read
    made, sealed = recorded(), {"digest": None}
    same = [
        one.model_copy(update={**sealed, "correctness": one.correctness.model_copy(update=sealed)})
        for one in (found, made)
    ]
    assert same[0] == same[1], "run python -m conformance.tests.support.speed_receipts"
    assert found.platform.simulated
    jsonschema.validate(found.to_data(), json.loads(schemas()["speed-1.json"]))
    first, second, third = (cell.estimate() for cell in found.cells)
    assert first is not None
    assert second is not None
    assert third is not None
    assert [difference(one) for one in (first, second, third)] == ["faster", "slower", "no difference"]
    assert first.low <= 1.19 <= first.high
    assert not list(found.faults())


def test_an_edit_is_noticed_in_it_and_in_what_it_carries() -> None:
    data = recorded().to_data()
    edited = json.loads(json.dumps(data))
    edited["cells"][0]["cold"][0][0]["micros"][0] = 1.0
    with pytest.raises(TamperedError):
        parse_speed(json.dumps(edited), "edited")
    inner = json.loads(json.dumps(data))
    inner["correctness"]["seconds"] = 99.0
    inner["digest"] = None
    with pytest.raises(TamperedError, match="correctness"):
        parse_speed(json.dumps(inner), "edited")


def test_what_is_no_speed_receipt_is_one_sentence() -> None:
    for wrong, said in (
        ({"schema": "attnconf.speed/2"}, "schema"),
        ({"schema": "attnconf.speed/1", "cells": 3}, "cells"),
        ([], "input"),
    ):
        with pytest.raises(InvalidInputError) as caught:
            parse_speed(json.dumps(wrong), "file.json")
        assert str(caught.value).count("\n") == 0, said
    with pytest.raises(ValidationError, match="two ask the same"):
        speed_receipt(speed_cell(), speed_cell())


def _faults(*cells: Any, **fields: Any) -> list[str]:  # noqa: ANN401 - cells and any field
    return list(speed_receipt(*(cells or (speed_cell(),)), **fields).faults())


def test_what_voids_a_run() -> None:
    assert not _faults()
    apart = SimulatedClock(speedup=1.04).blocks(3)
    (fault,) = _faults(speed_cell(control=apart))
    assert fault.startswith(
        "gemma4-e2b full decode bfloat16, 64 requests of 2000 to 4000 keys: trtllm_mha against itself"
    )
    assert fault.endswith("so the run is void")
    assert _faults(speed_cell(control=())) == [f"{speed_cell().text}: trtllm_mha was not timed against itself"]
    hot = CALM.model_copy(update={"throttled": ("software power cap", "hardware thermal")})
    processes = [Process(seconds=1.0, clocks=CALM)] * 4 + [Process(seconds=1.0, clocks=hot)]
    assert _faults(processes=processes) == ["process 5: the GPU was held back (hardware thermal)"]
    unknown = [Process(seconds=1.0, clocks=CALM)] * 4 + [Process(seconds=1.0, unknown="NVML is not installed")]
    assert _faults(processes=unknown) == ["process 5: clocks and throttling are unknown (NVML is not installed)"]
    assert _faults(planted=5.0) == ["its candidates were slowed down on purpose, by 5 %"]
    assert _faults(cold_bytes=2**20) == ["cold launches go over 1048576 bytes, which L2 (62914560 bytes) holds"]


def test_a_kernel_that_was_not_judged_has_no_speed() -> None:
    cell = speed_cell()
    other = speed_cell(model="gemma4-31b")
    assert _faults(cell, correctness=correctness((other,), H200, "0123456789" * 4)) == [
        f"{cell.text}: the correctness receipt does not show that {name} is right there"
        for name in ("trtllm_mha", "triton")
    ]
    slow = cell.candidate.model_copy(update={"judged": ("fallback",)})
    assert _faults(speed_cell(candidate=slow)) == [
        f"{cell.text}: trtllm_mha was timed with xqa, and judged with fallback"
    ]
    (fault,) = _faults(
        correctness=correctness((cell,), H200.model_copy(update={"device": "NVIDIA L4"}), "0123456789" * 4)
    )
    assert fault == "its correctness receipt is from another machine, NVIDIA L4, SM 9.0"
    assert _faults(correctness=correctness((cell,), H200, None)) == ["its correctness receipt is of commit none"]


def test_the_limit_of_a_launch_is_what_it_moves_or_computes() -> None:
    receipt = speed_receipt(speed_cell(), speed_cell(mode="extend", operations=71 * 10**10))
    assert receipt.ceilings is not None
    assert receipt.ceilings.limit(receipt.cells[0]) == (pytest.approx(190e6 / 4.1e12 * 1e6), "memory")
    assert receipt.ceilings.limit(receipt.cells[1]) == (pytest.approx(1000.0), "arithmetic")
    assert receipt.ceilings.limit(speed_cell(q_dtype="float16", kv_dtype="float16")) is None


def test_a_regression_is_seen_against_an_older_receipt() -> None:
    old = speed_receipt(speed_cell(1.2, 1), speed_cell(1.0, 2, mode="extend"))
    assert speed_changes([speed_receipt(speed_cell(1.2, 7), speed_cell(1.0, 8, mode="extend"))], [old]) == {}
    worse = speed_receipt(speed_cell(1.1, 7), speed_cell(1.0, 8, layer_kind="sliding"))
    found = speed_changes([worse], [old])
    assert set(found) == {"slower", "newly timed", "no longer timed"}
    (slower,) = found["slower"]
    assert slower.startswith("trtllm_mha over triton, gemma4-e2b full decode bfloat16")
    assert speed_changes([old], [worse])["faster"]
    elsewhere = speed_receipt(speed_cell(1.1, 7), platform=H200.model_copy(update={"device": "NVIDIA L4"}))
    assert "slower" not in speed_changes([elsewhere], [old])


def test_that_both_sides_became_slower_is_no_secret_of_their_ratio() -> None:
    slow = [SimulatedClock(speedup=1.2).blocks(5, micros=120.0)]
    now = speed_receipt(speed_cell(1.2, 1, cold=slow[0]))
    lines = speed_changes([now], [speed_receipt(speed_cell(1.2, 1))])["slower"]
    assert [line.split(",")[0] for line in lines] == ["trtllm_mha", "triton"]


def test_it_is_signed_as_a_receipt_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "speed.json"
    broken.write_text('{"schema": "attnconf.speed/1"}', encoding="utf-8")
    assert cli.main(["sign", str(broken), "--key", "none"]) == 2
    assert "speed.json: git_sha is " in capsys.readouterr().err
    speed_receipt(speed_cell()).write(broken)
    assert cli.main(["sign", str(broken), "--key", "none"]) == 2
    assert "there is no such file" in capsys.readouterr().err  # so the receipt itself was read


def test_it_keeps_every_digit_that_it_was_given() -> None:
    receipt = speed_receipt(speed_cell())
    assert parse_speed(json.dumps(receipt.to_data()), "x") == receipt
    assert isinstance(receipt, SpeedReceipt)
