"""Timers held against each other on a GPU: ours, Triton's ``do_bench`` and FlashInfer's ``bench_gpu_time``.

``python ci/benchmarks/speed_timers.py --backend triton --backend trtllm_mha`` prints the microseconds of one launch.
Theirs launch eagerly unless their names say graph, so a short kernel takes them as long as its host code.
"""

from __future__ import annotations

import argparse
import statistics
from typing import TYPE_CHECKING

import torch

from attnconf.cases.inputs.target import make_target
from attnconf.errors import one_line
from attnconf.judging.posed import PosedCase
from attnconf.platforms import detect
from attnconf.running.bench.cuda import CudaDevice
from attnconf.running.bench.questions import Place, Question, Shape, ask

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.platforms import Platform


def main() -> int:
    """Time each backend by each timer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backend", action="append", required=True)
    parser.add_argument("--model", default="gemma4-31b")
    parser.add_argument("--mode", default="decode")
    parser.add_argument("--kind", default="sliding")
    arguments = parser.parse_args()
    platform = detect()
    if platform.sm is None:
        print("a GPU is needed")
        return 2
    place = Place(arguments.model, arguments.kind, arguments.mode)
    for name in arguments.backend:
        question = ask([place], name, [name], Shape(), few=True, seed=0)[0]
        print(question.text)
        for timer, time in _timers(question, platform).items():
            try:
                print(f"    {timer}: {time():.1f} us", flush=True)
            except Exception as error:  # noqa: BLE001 - a timer of another library may raise anything
                print(f"    {timer}: {one_line(error)}")
    return 0


def _timers(question: Question, platform: Platform) -> dict[str, Callable[[], float]]:
    device = CudaDevice(platform)
    pair = device.pair(question)
    batch = PosedCase(question.case, torch.device("cuda")).fresh_batch()
    backend, _ = device.backend(question.candidate)
    ready, target = backend.prepare(batch), make_target(batch, question.layer, lse=False)

    def launch() -> None:
        ready.run(question.layer, target.out, None)

    def triton(graph: str) -> float:
        import triton.testing

        if graph:
            return 1000 * float(triton.testing.do_bench_cudagraph(launch, return_mode="median"))
        return 1000 * float(triton.testing.do_bench(launch, return_mode="median"))

    def flashinfer(**how: bool) -> float:
        from flashinfer.testing import bench_gpu_time

        return 1000 * statistics.median(bench_gpu_time(launch, **how))

    return {
        "ours, cold": lambda: statistics.median(pair.cold[0]() for _ in range(9)),
        "ours, warm": lambda: statistics.median(pair.warm[0]() for _ in range(9)),
        "triton do_bench": lambda: triton(""),
        "triton do_bench_cudagraph": lambda: triton("graph"),
        "flashinfer bench_gpu_time": flashinfer,
        "flashinfer bench_gpu_time, graph": lambda: flashinfer(use_cuda_graph=True),
    }


if __name__ == "__main__":
    raise SystemExit(main())
