"""Block sizes of our Triton kernel's extends, timed on a GPU: what ``backends/triton/tuning.py`` chooses from.

``python ci/benchmarks/triton_tuning.py --kind sliding 64,64,8,2 128,64,8,2`` prints the microseconds of a launch for
each ``ROWS,KEYS,WARPS,STAGES``, in a graph and cold.
"""

from __future__ import annotations

import argparse
from unittest import mock

from attnconf.backends.triton.tuning import Tuning
from attnconf.errors import one_line
from attnconf.platforms import detect
from attnconf.running.bench.cuda import CudaDevice
from attnconf.running.bench.questions import Place, Question, Shape, ask

_TIMES = 5


def main() -> int:
    """Time each tuning on the model's extends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tunings", nargs="+", metavar="ROWS,KEYS,WARPS,STAGES")
    parser.add_argument("--model", default="gemma4-31b")
    parser.add_argument("--kind", default="sliding")
    arguments = parser.parse_args()
    platform = detect()
    if platform.sm is None:
        print("a GPU is needed")
        return 2
    place = Place(arguments.model, arguments.kind, "extend")
    questions = ask([place], "triton", ["triton"], Shape(), few=True, seed=0)
    for text in arguments.tunings:
        rows, keys, warps, stages = map(int, text.split(","))
        tuning = Tuning(rows, keys, 1, 1, num_warps=warps, num_stages=stages)
        device = CudaDevice(platform)
        with mock.patch("attnconf.backends.triton.launch.extend_tuning", lambda *_, tuning=tuning, **__: tuning):
            for question in questions:
                print(f"{text} {question.load}: {_micros(device, question)}", flush=True)
                device.release()
    return 0


def _micros(device: CudaDevice, question: Question) -> str:
    try:
        timed = device.side(question.case, question.layer, "triton").timed(lambda: None)
        return f"{min(timed() for _ in range(_TIMES)):.1f} us"
    except Exception as error:  # noqa: BLE001 - a tuning may ask for more than the GPU has
        return one_line(error)


if __name__ == "__main__":
    raise SystemExit(main())
