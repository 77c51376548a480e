"""A bench without a GPU: everything but the launch and its clock, which are simulated."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from attnconf.cases.case import Case, Layer
from attnconf.cases.request import Request
from attnconf.cli import main as cli
from attnconf.cli.arguments import make_session
from attnconf.errors import AttnconfError
from attnconf.gate.invariants import cell_contradictions, contradictions
from attnconf.gate.speeds.speed_receipt import Ceilings, Process
from attnconf.running.bench.bench import Plan, Task, run_bench
from attnconf.running.bench.process import OVER, Measured, NotTimedError, Pair, measure
from attnconf.running.bench.questions import Question
from attnconf.speeds.verdicts import difference
from conformance.tests.support.speed_receipts import CALM

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from attnconf.gate.receipt import Receipt
    from attnconf.running.session import Session

LAYER = Layer(kind="sliding", window_left=7, num_qo_heads=2, num_kv_heads=1, head_dim=16, sm_scale=0.25)
CASE = Case(mode="decode", layers=(LAYER,), requests=(Request(prefix_len=20), Request(prefix_len=3)))
QUESTION = Question(CASE, 0, "2 requests of 3 to 20 keys", "reference", "torch_sdpa")


def contradictions_of(receipt: Receipt) -> list[str]:
    return [*contradictions(receipt), *cell_contradictions(receipt)]


def session() -> Session:
    made = make_session()
    made.isolate = False
    return made


@dataclass
class SimulatedDevice:
    """Launches that take as long as their backend's entry says, and fail for what has none."""

    micros: dict[str, float]
    seed: int = 0
    l2_bytes: int = 1000
    released: int = 0
    dtypes: list[str] = field(default_factory=list)

    def ceilings(self, dtypes: Sequence[str]) -> Ceilings:
        self.dtypes += dtypes
        return Ceilings(bytes=1e12, operations=dict.fromkeys(dtypes, 1e14))

    def pair(self, question: Question) -> Pair:
        if question.case.mode == "extend":
            raise NotTimedError("its launch cannot be captured in a CUDA graph: no")
        a, b, again = (self._launch(name) for name in (question.candidate, question.baseline, question.candidate))
        return Pair(
            cold=(a, b),
            warm=(a, b),
            again=again,
            kernels=("k", "sdpa"),
            prepare_micros=(5.0, 6.0),
            launches=4,
            bytes=9000,
        )

    def _launch(self, name: str) -> Callable[[], float]:
        draw, base = random.Random(f"{name}/{self.seed}"), self.micros[name]  # noqa: S311 - no secret
        return lambda: base * (1 + abs(draw.gauss(0, 0.005)))

    def release(self) -> None:
        self.released += 1

    def process(self, seconds: float) -> Process:
        return Process(seconds=seconds, clocks=CALM)


def do(micros: dict[str, float]) -> Callable[[Task], Measured]:
    def run(task: Task) -> Measured:
        device = SimulatedDevice(micros, seed=task.number)
        plan = task.plan
        return measure(task.questions, device, number=task.number, blocks=plan.blocks, seed=0, seconds=task.seconds)

    return run


def test_a_process_times_every_question_and_says_what_it_could_not() -> None:
    extend = CASE.model_copy(update={"mode": "extend"})
    unknown = Question(CASE, 0, "x", "reference", "nobody")
    questions = [QUESTION, Question(extend, 0, "y", "reference", "torch_sdpa"), unknown]
    device = SimulatedDevice({"reference": 10.0, "torch_sdpa": 12.0})
    found = measure(questions, device, number=0, blocks=6, seed=0, seconds=100.0)
    assert list(found.answers) == [0]
    assert found.left_out == {1: "its launch cannot be captured in a CUDA graph: no", 2: "KeyError: 'nobody'"}
    answer = found.answers[0]
    assert [len(one) for one in (answer.cold, answer.warm, answer.control)] == [6, 6, 6]
    assert all(0.15 < block.log_ratio < 0.21 for block in answer.cold)
    assert all(abs(block.log_ratio) < 0.03 for block in answer.control)
    assert device.released == 3
    assert device.dtypes == ["bfloat16"]
    late = measure(questions[:1], device, number=1, blocks=6, seed=0, seconds=0.0)
    assert late.left_out == {0: "the time was over; --seconds gives more"}
    assert late.ceilings is None


def test_a_bench_judges_first_and_writes_what_it_measured() -> None:
    said: list[str] = []
    plan = Plan(processes=3, blocks=6)
    receipt = run_bench(session(), [QUESTION], plan, said.append, do({"reference": 10.0, "torch_sdpa": 12.0}))
    (cell,) = receipt.cells
    found = cell.estimate()
    assert found is not None
    assert difference(found) == "faster"
    assert found.low <= 1.2 <= found.high
    assert (cell.model, cell.layer_kind, cell.mode, cell.launches) == ("free", "sliding", "decode", 4)
    assert [one.passed for one in receipt.correctness.cells] == [1, 1]
    assert not contradictions_of(receipt.correctness)
    assert cell.candidate.judged != ("",)
    timed_otherwise = [fault for fault in receipt.faults() if "was timed with" in fault]
    assert len(timed_otherwise) == 2  # the simulated device names kernels that the judged backends do not have
    assert list(receipt.faults()) == timed_otherwise
    assert receipt.correctness.identity == receipt.correctness.digest
    assert any(line.startswith("judging reference") for line in said)
    assert said[-1] == "timing 1 questions in process 3 of 3"


def test_a_process_that_cannot_time_is_said_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    receipt = run_bench(session(), [QUESTION], Plan(processes=1), lambda _: None)
    assert (receipt.cells, receipt.processes) == ((), ())
    (lost,) = receipt.left_out
    assert lost.startswith("process 1: ")
    assert "CUDA" in lost or "NVIDIA" in lost


def test_what_there_was_no_time_to_judge_is_left_out() -> None:
    receipt = run_bench(session(), [QUESTION], Plan(processes=3, seconds=0.0), lambda _: None, do({}))
    assert receipt.left_out == (f"{QUESTION.text}: reference was not judged: {OVER}",)
    assert not contradictions_of(receipt.correctness)


def test_what_is_declined_or_no_kernel_is_left_out_with_its_reason() -> None:
    narrow = LAYER.model_copy(update={"head_dim": 24, "logits_soft_cap": 30.0})
    capped = CASE.model_copy(update={"layers": (narrow,)})
    asked = [Question(capped, 0, "x", "reference", "torch_sdpa")]
    receipt = run_bench(session(), asked, Plan(processes=3), lambda _: None, do({}))
    assert not receipt.cells
    (reason,) = receipt.left_out
    assert reason.startswith("reference over torch_sdpa, free sliding decode, x: torch_sdpa is unsupported: ")
    with pytest.raises(AttnconfError, match="nobody"):
        run_bench(session(), [Question(CASE, 0, "x", "nobody", "torch_sdpa")], Plan(), lambda _: None, do({}))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "bench times kernels on a GPU, and this machine has none that torch can use"),
        (["--model", "nothing"], "model"),
        (["--model", "llama3-8b", "--kind", "sliding"], "--model, --kind, --mode"),
        (["--blocks", "0"], "--blocks"),
        (["--page-size", "0"], "--page-size"),
        (["--plant-slowdown", "-1"], "--plant-slowdown"),
        (["--plant-slowdown", "nan"], "--plant-slowdown"),
        (["--seconds", "soon"], "is not a number of seconds"),
        (["--picture", "/no/such/folder/x.png"], "/no/such/folder"),
    ],
)
def test_bad_input_and_a_machine_without_a_gpu_are_one_sentence(
    capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    call = ["bench", "--candidate", "triton", "--over", "reference", *options]
    try:
        status = cli.main(call)
    except SystemExit as ended:
        status = int(str(ended.code))
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


def test_an_order_is_one_of_its_process_and_its_question() -> None:
    device = SimulatedDevice({"reference": 10.0, "torch_sdpa": 12.0})
    orders = set()
    for number, count in itertools.product(range(4), (1, 2)):
        found = measure([QUESTION] * count, device, number=number, blocks=8, seed=0, seconds=9.0)
        orders |= {tuple(block.order for block in one.cold) for one in found.answers.values()}
    assert len(orders) > 5
