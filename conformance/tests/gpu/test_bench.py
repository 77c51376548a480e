"""A bench on a GPU, small: a kernel against itself differs by nothing, and a slowdown of 20 % is found."""

from __future__ import annotations

import pytest
import torch

from attnconf.cli.arguments import make_session
from attnconf.gate.speeds.speed_receipt import SpeedReceipt
from attnconf.platforms import detect
from attnconf.running.bench.bench import Plan, run_bench
from attnconf.running.bench.cuda import CudaDevice
from attnconf.running.bench.questions import Place, Shape, ask
from attnconf.running.bench.timing import CudaTimer, time_case
from attnconf.speeds.verdicts import difference

PLACE = Place("gemma4-e2b", "full", "decode")


def _bench(planted: float) -> SpeedReceipt:
    asked = ask([PLACE], "triton", ["triton"], Shape(), few=True, seed=0)
    said: list[str] = []
    return run_bench(make_session(), asked, Plan(processes=3, blocks=6, planted=planted), said.append)


@pytest.mark.parametrize(("planted", "verdicts"), [(0.0, {"no difference", "undecided"}), (20.0, {"slower"})])
def test_a_kernel_against_itself(planted: float, verdicts: set[str]) -> None:
    receipt = _bench(planted)
    assert not receipt.left_out
    (cell,) = receipt.cells
    found, control = cell.estimate(), cell.control_estimate()
    assert found is not None
    assert control is not None
    assert difference(found) in verdicts
    assert difference(control) in {"no difference", "undecided"}
    assert receipt.cold_bytes > receipt.l2_bytes > 0
    assert receipt.ceilings is not None
    limit = receipt.ceilings.limit(cell)
    assert limit is not None
    assert 0 < limit[0] < 2 * (cell.micros("B") or 0)
    assert cell.candidate.kernels == cell.candidate.judged


def test_what_a_pair_reads_is_its_own_whatever_is_allocated_later() -> None:
    (question,) = ask([PLACE], "triton", ["triton"], Shape(), few=True, seed=0)
    pair = CudaDevice(detect()).pair(question)
    before = torch.cuda.memory_allocated()
    assert before > pair.bytes / 2
    taken = [torch.full((2**20,), 2**30, dtype=torch.int32, device="cuda") for _ in range(64)]
    assert pair.cold[0]() > 0  # a table that is overwritten sends a kernel to memory that is nobody's
    del taken


def test_a_clock_of_events_sees_what_a_graph_takes() -> None:
    (question,) = ask([PLACE], "triton", ["triton"], Shape(), few=True, seed=0)
    timing = time_case(question.case, question.layer, "triton", detect())
    clock = CudaTimer()
    clock()
    start = clock()
    timing.replay()
    once = clock() - start
    start = clock()
    for _ in range(50):
        timing.replay()
    many = clock() - start
    assert 20 * once < many < 100 * once
