"""Bench: judge every case on both backends, time it in processes of its own, and write what was found as a receipt."""

from __future__ import annotations

import datetime as dt
import platform as python_platform
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.errors import BackendUnavailableError, one_line
from attnconf.gate.git import git_sha
from attnconf.gate.receipt import Receipt, record_platform
from attnconf.gate.speeds.cell import Side, SpeedCell
from attnconf.gate.speeds.speed_receipt import SpeedReceipt
from attnconf.judging.result import Outcome
from attnconf.running.bench.process import OVER, measure
from attnconf.running.bench.work import work
from attnconf.running.processes.crew import Crew
from attnconf.running.processes.engine import LostError
from attnconf.running.processes.watched import watched
from attnconf.running.providers import providers_of
from attnconf.running.record import recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from attnconf.judging.result import CaseResult
    from attnconf.platforms import Platform
    from attnconf.running.bench.process import Answer, Measured
    from attnconf.running.bench.questions import Question
    from attnconf.running.session import Session

PROFILE = "bench"
"""What the correctness receipt says in the place of a profile."""

_GRACE = 180.0
"""Seconds beyond its share after which a process is ended: a question that was begun is finished, unless it hangs."""

_LEAST_SHARE = 20.0
"""Seconds that a process gets at least, however late it is: importing torch and loading kernels take some."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured: ``processes`` one after the other, ``blocks`` of each question in each.

    Nothing is begun after ``seconds`` in all: judging gets a half at most, and every process its share of the rest.
    ``planted`` slows candidates by so many percent.
    """

    processes: int = 5
    blocks: int = 12
    seconds: float = 600.0
    seed: int = 0
    planted: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Task:
    """What one process is asked."""

    questions: tuple[Question, ...]
    platform: Platform
    plan: Plan
    number: int
    seconds: float


def run_task(task: Task) -> Measured:
    """Do a task on the GPU of this process, which ends itself when it hangs."""
    from attnconf.running.bench.cuda import CudaDevice

    plan = task.plan
    with watched(f"process {task.number + 1} of {plan.processes}", task.seconds + _GRACE):
        device = CudaDevice(task.platform, plan.planted)
        return measure(
            task.questions, device, number=task.number, blocks=plan.blocks, seed=plan.seed, seconds=task.seconds
        )


@dataclass(frozen=True)
class Judged:
    """The questions whose kernels are right, why others are left out, and the receipt of the run that says so.

    ``kernels`` has the kernel that was judged by case, layer and backend.
    """

    questions: tuple[Question, ...]
    left_out: tuple[str, ...]
    receipt: Receipt
    kernels: dict[tuple[str, int, str], str]


def judge(session: Session, questions: Sequence[Question], plan: Plan, say: Callable[[str], None]) -> Judged:
    """Judge each case once on each backend that is asked, and close the session: its processes hold memory.

    No case is begun after half of the plan's seconds.
    """
    started, clock = dt.datetime.now(dt.UTC), time.perf_counter()
    results: dict[tuple[str, str], CaseResult] = {}
    left_out: list[str] = []
    with closing(session):
        for question in questions:
            for name in (question.candidate, question.baseline):
                key = (question.case.id, name)
                if key in results or time.perf_counter() - clock >= plan.seconds / 2:
                    continue
                say(f"judging {name}: {question.case.model} {question.case.mode}, {question.load}")
                results[key] = session.run(question.case, name, "base", explain=False)
        wrong = {}
        for question in questions:
            sides = {name: results.get((question.case.id, name)) for name in (question.candidate, question.baseline)}
            wrong[question] = _why_left_out(question, sides)
        names = dict.fromkeys(name for _, name in results)
        providers = providers_of(session, names, Path.cwd())
    left_out = [f"{question.text}: {reason}" for question, reason in wrong.items() if reason]
    kernels = {
        (case, layer.layer, name): layer.kernel for (case, name), found in results.items() for layer in found.layers
    }
    record = recorded(tuple(results.values()))
    broken = any(result.is_failure for result in results.values())
    receipt = Receipt(
        git_sha=git_sha(Path.cwd()),
        platform=record_platform(session.platform, python_platform.python_version()),
        policy=None,
        profile=PROFILE,
        seed=plan.seed,
        started=started.isoformat(),
        seconds=round(time.perf_counter() - clock, 3),
        cells=tuple(record.cells),
        exit_status=int(broken),
        backend_seconds={name: round(seconds, 3) for name, seconds in sorted(record.seconds.items())},
        providers=providers,
        cases=record.cases,
    )
    right = tuple(question for question, reason in wrong.items() if not reason)
    return Judged(right, tuple(left_out), Receipt.from_data(receipt.to_data(), "correctness"), kernels)


def _why_left_out(question: Question, sides: dict[str, CaseResult | None]) -> str:
    """Return why the question is not timed: a side declines it, is wrong, or ran no kernel; empty if both are right."""
    for name, result in sides.items():
        if result is None:
            return f"{name} was not judged: {OVER}"
        layer = result.layers[question.layer]
        if result.evidence == "contract":
            return f"{name} executes a contract here, and no kernel"
        if layer.outcome is not Outcome.PASSED:
            reason = layer.reason or "; ".join(failure.summary for failure in layer.failures)
            return f"{name} is {layer.outcome.value}: {reason}"
    return ""


def run_bench(
    session: Session,
    questions: Sequence[Question],
    plan: Plan,
    say: Callable[[str], None],
    do: Callable[[Task], Measured] = run_task,
) -> SpeedReceipt:
    """Judge and time ``questions``; ``do`` is what a process does. Raises ``BackendUnavailableError`` of a backend."""
    for name in dict.fromkeys(name for one in questions for name in (one.candidate, one.baseline)):
        session.registry.refuse_unknown(name)
        reason = session.why_not(name)
        if reason is not None:
            raise BackendUnavailableError(reason)
    clock = time.monotonic()
    judged = judge(session, questions, plan, say)
    rest = max(0.0, plan.seconds - (time.monotonic() - clock))
    return time_judged(judged, session.platform, replace(plan, seconds=rest), say, do)


def time_judged(
    judged: Judged,
    platform: Platform,
    plan: Plan,
    say: Callable[[str], None],
    do: Callable[[Task], Measured] = run_task,
) -> SpeedReceipt:
    """Time the questions whose kernels are right."""
    started, clock = dt.datetime.now(dt.UTC), time.monotonic()
    measured = _processes(judged.questions, platform, plan, say, do) if judged.questions else []
    done = [one for one in measured if not isinstance(one, LostError)]
    lost = [f"process {number}: {one}" for number, one in enumerate(measured, 1) if isinstance(one, LostError)]
    cells = [_cell(index, question, done, judged) for index, question in enumerate(judged.questions)]
    reasons = [
        f"{question.text}: {reason}"
        for index, question in enumerate(judged.questions)
        for reason in dict.fromkeys(one.left_out[index] for one in done if index in one.left_out)
    ]
    found = [cell for cell in cells if cell is not None]
    sizes = [answer.bytes for one in done for answer in one.answers.values()]
    receipt = SpeedReceipt(
        git_sha=judged.receipt.git_sha,
        platform=judged.receipt.platform,
        started=started.isoformat(),
        seconds=round(time.monotonic() - clock, 3),
        seed=plan.seed,
        l2_bytes=max((one.l2_bytes for one in done), default=0),
        cold_bytes=min(sizes, default=0),
        planted=plan.planted,
        processes=tuple(one.process for one in done),
        ceilings=next((one.ceilings for one in done if one.ceilings is not None), None),
        cells=tuple(found),
        left_out=(*judged.left_out, *reasons, *lost),
        correctness=judged.receipt,
    )
    return SpeedReceipt.from_data(receipt.to_data(), "the measurement")


def _processes(
    questions: tuple[Question, ...],
    platform: Platform,
    plan: Plan,
    say: Callable[[str], None],
    do: Callable[[Task], Measured],
) -> list[Measured | LostError]:
    """Run the processes one after the other, each a new one: they share nothing and do not disturb each other."""
    end = time.monotonic() + plan.seconds
    found: list[Measured | LostError] = []
    for number in range(plan.processes):
        share = max(_LEAST_SHARE, (end - time.monotonic()) / (plan.processes - number))
        say(f"timing {len(questions)} questions in process {number + 1} of {plan.processes}")
        task = Task(questions=questions, platform=platform, plan=plan, number=number, seconds=share)
        found.append(_in_new_process(task) if do is run_task else do(task))
        if isinstance(found[-1], LostError):
            say(f"process {number + 1} is lost: {found[-1]}")
    return found


def _in_new_process(task: Task) -> Measured | LostError:
    try:
        with Crew(1) as crew:
            return next(crew.map(run_task, [task]))[1]
    except Exception as error:  # noqa: BLE001 - whatever torch or a driver raises where nothing could be timed
        return LostError(one_line(error))


def _cell(index: int, question: Question, done: Iterable[Measured], judged: Judged) -> SpeedCell | None:
    answers = [one.answers.get(index) for one in done]
    timed = [answer for answer in answers if answer is not None]
    if not timed:
        return None
    case, layer = question.case, question.layer
    moved, computed = work(case, layer)
    geometry = case.layers[layer]
    return SpeedCell(
        case=case.id,
        layer=layer,
        load=question.load,
        model=case.model,
        layer_kind=geometry.cell_kind,  # type: ignore[arg-type]
        mode=case.mode,
        q_dtype=case.q_dtype,
        kv_dtype=case.kv_dtype,
        out_dtype=case.out_dtype,
        candidate=_side(0, question.candidate, timed, judged.kernels[case.id, layer, question.candidate]),
        baseline=_side(1, question.baseline, timed, judged.kernels[case.id, layer, question.baseline]),
        bytes=moved,
        operations=computed,
        launches=timed[0].launches,
        cold=tuple(answer.cold for answer in timed),
        warm=tuple(answer.warm for answer in timed),
        control=tuple(answer.control for answer in timed),
    )


def _side(place: int, name: str, timed: Sequence[Answer], judged: str) -> Side:
    prepares = sorted(answer.prepare_micros[place] for answer in timed)
    kernels = tuple(dict.fromkeys(answer.kernels[place] for answer in timed))
    return Side(backend=name, kernels=kernels, judged=(judged,), prepare_micros=prepares[len(prepares) // 2])
