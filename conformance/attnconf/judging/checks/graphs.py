"""Clause 16: a CUDA graph captured once gives right answers when replayed over other batches.

They are longer and shorter, have fewer live requests, and, of backends that promise it, other query lengths.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch

from attnconf.cases.inputs.target import make_target
from attnconf.clauses import Clause
from attnconf.judging.checks import outlines
from attnconf.judging.checks.agreement import Comparison, compare_all
from attnconf.judging.checks.replays import fewer_live, other_lengths, shorter
from attnconf.judging.checks.static_memory import load, own_memory
from attnconf.judging.execution import read_output
from attnconf.judging.posed import PosedCase
from attnconf.judging.result import Failure
from attnconf.judging.trial import Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from attnconf.backends.protocol import Replayable
    from attnconf.cases.case import Case
    from attnconf.judging.execution import Output

CHECK_NAME = outlines.GRAPHS.name
_WARM_UPS = 2
"""Launches before the capture, in which kernels are compiled and workspaces grow."""


def capture(launch: Callable[[], str]) -> tuple[Callable[[], None], str]:
    """Warm ``launch`` up and capture it in a CUDA graph. Return a function that replays it, and the kernel's name."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UPS):
            launch()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kernel = launch()

    def replay() -> None:
        graph.replay()
        torch.cuda.synchronize()

    return replay, kernel


def replayed(
    trial: Trial, layer: int, capturing: Callable[[Callable[[], str]], tuple[Callable[[], object], str]]
) -> list[Failure]:
    """Capture a layer over a shorter batch; replay it over the trial's batch, others, and the shorter one again."""
    short = shorter(trial.case)
    cases = {"a longer one": trial.case, **dict(_variants(trial, layer)), "the shorter one again": short}
    # One batch after the other is made and dropped: a pool may take most of a GPU's memory.
    sized = [PosedCase(case, trial.posed.device) for case in cases.values()]
    static = own_memory(PosedCase(short, trial.posed.device).batch, *sized)
    prepared = cast("Replayable", trial.prepare(static))
    base = trial.backend.promises.lse
    target = make_target(static, layer, lse=base is not None)
    with trial.surroundings.of_torch():
        replay, kernel = capturing(lambda: prepared.run(layer, target.out, target.lse))
    for name, case in cases.items():
        judged = trial if case is trial.case else _trial_of(trial, case)
        with trial.surroundings.of_torch():
            prepared.update(load(static, judged.posed.batch))
        target.reset()
        replay()
        asked = replace(target, slack=len(target.out) - judged.posed.batch.num_rows)
        output = read_output(asked, kernel, base, judged.posed.oracle_device)
        what = f"captured over one batch and replayed over {name}"
        comparison = Comparison(Clause.CUDA_GRAPHS, CHECK_NAME, what)
        judged.base(layer)
        failures = compare_all(judged, layer, output, comparison, bitwise=False) or _beside(judged, layer, output, what)
        if failures:
            return failures
    return []


def _variants(trial: Trial, layer: int) -> Iterator[tuple[str, Case]]:
    """Yield the batches with other requests than the captured one's that the backend promises to bear."""
    case, promises = trial.case, trial.backend.promises
    fewer = fewer_live(case, empty_kv=promises.empty_kv)
    if fewer is not None and trial.can_run(fewer, layer):
        yield "one with fewer live requests", fewer
    padded = promises.empty_q and promises.empty_kv and promises.slack_rows
    other = other_lengths(case) if promises.cuda_graph_q_lens and padded else None
    if other is not None and trial.can_run(other, layer):
        yield "one with other query lengths", other


def _trial_of(trial: Trial, case: Case) -> Trial:
    posed = PosedCase(case, trial.posed.device)
    return Trial(posed, trial.backend, trial.platform, surroundings=trial.surroundings)


def _beside(trial: Trial, layer: int, output: Output, what: str) -> list[Failure]:
    """Return what a replay did beside the rows of requests that the same batch, run without a graph, does not do."""
    eager = trial.base(layer)
    padding = slice(trial.posed.logical.q_starts[-1], trial.posed.batch.num_rows)
    found = {
        "rows behind the last request's were written": eager.guards_intact and not output.guards_intact,
        f"{output.unwritten} elements were not written": not eager.unwritten and bool(output.unwritten),
        "a row over no key is not all zeros": (
            not trial.case.padding_kv_len and _is_zero(eager.out[padding]) and not _is_zero(output.out[padding])
        ),
    }
    said = next((words for words, is_so in found.items() if is_so), None)
    if said is None:
        return []
    return [Failure(clause=Clause.CUDA_GRAPHS, check=CHECK_NAME, layer=layer, summary=f"{what}: {said}")]


def _is_zero(rows: torch.Tensor) -> bool:
    return not bool(rows.float().any())  # CUDA has no any() of 8-bit numbers


def _run(trial: Trial, layer: int) -> list[Failure]:
    return replayed(trial, layer, capture)


def _applies(trial: Trial, _layer: int) -> bool:
    return (
        trial.case.mode in outlines.CAPTURED and trial.posed.device.type == "cuda" and trial.backend.promises.cuda_graph
    )


CHECK = outlines.GRAPHS.check(_applies, _run)
"""CUDA graphs (clause 16): captured values stay although the batch changes. Only a GPU can catch them."""
