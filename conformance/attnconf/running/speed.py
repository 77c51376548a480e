"""Speed: what the judging of a case costs beside what its kernel and its answer need.

The floor of a case is the least that any judge of it must do: as many runs of its kernel as its checks ask for, one
float64 answer with its bound for every request and layer, and one write of its inputs. ``factor`` is wall over floor.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from attnconf.cases.case import Case, Layer, Paging
from attnconf.cases.models import load_model
from attnconf.cases.request import Request
from attnconf.judging.posed import PosedCase
from attnconf.judging.run import run_case
from attnconf.judging.trial import Trial
from attnconf.speeds.measured import Measured

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.backends.protocol import Backend
    from attnconf.cases.case import Mode
    from attnconf.judging.result import CaseResult
    from attnconf.platforms import Platform

_REPEATS = 3


@dataclass(frozen=True)
class Kind:
    """A kind of case whose cost is measured: the whole layers of a model, one of each kind, in one mode."""

    name: str
    model: str
    mode: Mode
    requests: tuple[Request, ...]
    small: bool = False
    ladder: str = ""

    @property
    def size(self) -> int:
        """Its query tokens: of a decode, its requests."""
        return sum(request.new_tokens for request in self.requests)

    @property
    def case(self) -> Case:
        """The case, with the model's real heads, head dims and windows."""
        layers = tuple(Layer.model_validate(one.model_dump()) for one in load_model(self.model).case_layers())
        paging = Paging(page_size=64, layout="HND")
        return Case(model=self.model, mode=self.mode, layers=layers, requests=self.requests, paging=paging, seed=3)


KINDS = (
    Kind(
        "decode, 3 short requests",
        "gemma4-31b",
        "decode",
        (Request(prefix_len=1100), Request(prefix_len=63), Request(prefix_len=640)),
        small=True,
    ),
    Kind(
        "extend, 24 new tokens",
        "gemma4-e2b",
        "extend",
        (Request(prefix_len=600, new_tokens=24), Request(prefix_len=17, new_tokens=9)),
        small=True,
    ),
    Kind("decode, 256 requests of 2,000 keys", "gemma4-e2b", "decode", (Request(prefix_len=1999),) * 256),
    Kind("extend, 2,048 new tokens", "gemma4-31b", "extend", (Request(prefix_len=301, new_tokens=2048),)),
    Kind("extend, 8,192 new tokens", "gemma4-e2b", "extend", (Request(new_tokens=8192),)),
    Kind("decode, 131,072 keys", "gemma4-31b", "decode", (Request(prefix_len=131_071),)),
)
"""Small ones, of which a campaign asks thousands, and sizes that serving runs."""


LADDER = (
    *(
        Kind(f"extend, {tokens} new tokens", "gemma4-e2b", "extend", (Request(new_tokens=tokens),), ladder="prefill")
        for tokens in (512, 1024, 2048, 4096, 8192, 16_384)
    ),
    *(
        Kind(f"decode, {count} requests", "gemma4-e2b", "decode", (Request(prefix_len=1999),) * count, ladder="decode")
        for count in (16, 32, 64, 128, 256, 512)
    ),
)
"""Growing sizes of one kind of case, to see whether its cost grows with them."""


def measure(kind: Kind, backend: Backend, platform: Platform, device: torch.device) -> Measured:
    """Judge the case of ``kind`` warm, several times, and measure the terms of its floor. Takes memory as it does."""

    def judge() -> CaseResult:
        return run_case(kind.case, backend, platform, device)

    result = judge()
    wall = _median(judge, device, _REPEATS)
    kernels, answers, inputs = _floor(kind.case, backend, platform, device, result)
    judged = [layer for layer in result.layers if layer.outcome.is_executed]
    return Measured(
        kind=kind.name,
        size=kind.size,
        ladder=kind.ladder,
        model=kind.model,
        backend=backend.name,
        layers=len(judged),
        outcomes=tuple(f"{layer.outcome.value} {layer.kernel or layer.reason}"[:80] for layer in result.layers),
        runs=result.runs,
        wall=wall,
        busy=None if device.type == "cpu" else _busy(judge),
        kernels=kernels,
        answers=answers,
        inputs=inputs,
    )


def _floor(
    case: Case, backend: Backend, platform: Platform, device: torch.device, result: CaseResult
) -> tuple[float, float, float]:
    """Return the seconds of the runs that the checks asked for, of the answers, and of one write of the inputs."""
    posed = PosedCase(case, device)
    trial = Trial(posed, backend, platform)
    asked = [index for index, layer in enumerate(result.layers) if layer.outcome.is_executed]
    if not asked:
        return 0.0, 0.0, 0.0
    runs = result.runs / len(asked)
    prepared, batch = trial.prepared("base", lambda: posed.batch)
    kernels = answers = 0.0
    for layer in asked:
        q = batch.layers[layer].q
        out = torch.empty(batch.layers[layer].out_shape, dtype=batch.layers[layer].out_dtype, device=device)
        lse = torch.empty(q.shape[:2], dtype=torch.float32, device=device)
        base = lse if backend.promises.lse is not None else None

        def run(layer: int = layer, out: torch.Tensor = out, base: torch.Tensor | None = base) -> None:
            prepared.run(layer, out, base)

        def answer(layer: int = layer) -> None:
            posed.forget_answers()
            trial.expected_all(layer)

        kernels += runs * _median(run, device, _REPEATS)
        answer()
        answers += _median(answer, device, _REPEATS)
    memory = [whole for _, whole in batch.memory()]
    return kernels, answers, _median(lambda: [whole.clone() for whole in memory], device, _REPEATS)


def _median(what: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Return the median wall time of ``what`` in seconds, the device waited for."""
    found = []
    for _ in range(repeats):
        _wait(device)
        started = time.perf_counter()
        what()
        _wait(device)
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _busy(what: Callable[[], object]) -> float:
    """Return how long the GPU works for ``what``, in seconds: the sum of its kernels and copies, as CUPTI sees them."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        what()
    return float(sum(event.self_device_time_total for event in profile.key_averages())) / 1e6
