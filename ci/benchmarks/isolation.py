"""What a process of its own costs a backend on this machine: ``python ci/benchmarks/isolation.py [BACKEND ...]``.

The first start includes the server that imports torch for all of them. A case costs what passes beside its judgement:
the copy of the case and its result through a pipe.
"""

from __future__ import annotations

import sys
import time
from contextlib import closing
from statistics import median

from attnconf.cases.drawing.profiles import profile_named
from attnconf.platforms import detect
from attnconf.running.session import Session

CASES = 200
DEFAULT = ("reference", "torch_sdpa", "triton")


def main(names: tuple[str, ...]) -> None:
    """Print the seconds of each start, and the milliseconds that a case costs."""
    with closing(Session(detect(), profile_named("smoke"), isolate=True)) as session:
        for name in names:
            started = time.perf_counter()
            session.declaration(name)
            print(f"{name}: stands after {time.perf_counter() - started:.2f} s")
        cases = session.drawn.cases("decode", "gemma4-e2b")
        costs = []
        for index in range(CASES):
            started = time.perf_counter()
            result = session.ask(cases[index % len(cases)], names[0], explain=False, count_effects=False)
            costs.append(1e3 * (time.perf_counter() - started - result.seconds))
        print(f"{names[0]}: {median(costs):.1f} ms a case beside its judgement (median of {CASES})")


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or DEFAULT)
