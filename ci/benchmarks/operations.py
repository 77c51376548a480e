"""Count what torch is asked to do for one judged case: on a GPU the host starts each operation in some 10 us.

``python -m ci.benchmarks.operations`` prints, for the small kinds of case of ``attnconf speed``, the operations of each
stage: what they are for (the case's own run, effects, a check) and what they do (inputs, pools, targets, answers and
comparisons, the backend). No GPU is needed: blocks of the oracle are as large as on one. ``--lines N`` adds the lines
of code that ask for most. Views start nothing on a device, and are counted apart.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch

from attnconf.backends.reference import ReferenceBackend
from attnconf.cases.inputs import guards
from attnconf.judging.run import run_case
from attnconf.oracle import parts
from attnconf.platforms import Platform
from attnconf.running.speed import KINDS
from conformance.tests.support.operations import Operations

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from attnconf.cases.case import Case

_WORK = {
    "backends/": "backend",
    "oracle/": "answers",
    "numerics": "answers",
    "cases/inputs/target": "targets",
    "cases/inputs/assemble": "pools",
    "cases/inputs/logical": "inputs",
    "cases/inputs/batch": "batches",
    "judging/mistakes/": "mistakes",
}
"""What code of a module does: the first of these in the stack of an operation counts, else the module that asks."""


class Counted(Operations):
    """Within it, operations are counted by what they are for, what they do, and the line that asks for them."""

    def __init__(self) -> None:
        super().__init__()
        self.stages: Counter[tuple[str, str]] = Counter()
        self.lines: Counter[str] = Counter()

    def started(self, name: str) -> None:
        """Count an operation by the stack that it has now."""
        stack = list(_modules())
        self.stages[_purpose(stack), _work(stack)] += 1
        self.lines[f"{stack[0][0]}:{stack[0][1]} {name}"] += 1


def _modules() -> Iterator[tuple[str, int]]:
    """Yield the modules of attnconf in the stack, the innermost first, each with the line that it is at."""
    frame: Any = sys._getframe(2)  # noqa: SLF001 - an operation has no other way to its stack
    while frame is not None:
        _, found, module = frame.f_code.co_filename.rpartition("/attnconf/")
        if found:
            yield module.removesuffix(".py"), frame.f_lineno
        frame = frame.f_back


def _purpose(stack: Sequence[tuple[str, int]]) -> str:
    names = [module for module, _ in reversed(stack)]
    return next((name for name in names if name.startswith("judging/checks/") or name == "judging/effects"), "own run")


def _work(stack: Sequence[tuple[str, int]]) -> str:
    for prefix, work in _WORK.items():
        if any(module.startswith(prefix) for module, _ in stack):
            return work
    return stack[0][0]


def counted(case: Case) -> tuple[Counted, int]:
    """Return the operations of judging ``case`` by the checks of its turn, and the runs of the backend."""
    device, backend = torch.device("cpu"), ReferenceBackend()
    run_case(case, backend, Platform(), device)  # makes what is kept for later cases
    with Counted() as found:
        result = run_case(case, backend, Platform(), device)
    return found, result.runs


def main() -> None:
    """Print the counts of the small kinds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=0, metavar="N", help="the lines that ask for most, too")
    arguments = parser.parse_args()
    for limits in (parts.MOST_SCORES, parts.MOST_KEYS, parts.SMALL, guards.SMALL_BYTES):
        limits["cpu"] = limits["cuda"]
    for kind in KINDS:
        if not kind.small:
            continue
        found, runs = counted(kind.case)
        of_backend = sum(count for (_, work), count in found.stages.items() if work == "backend")
        total = found.count
        print(f"{kind.name}: {total} operations, {total - of_backend} without the backend in its {runs} runs")
        for place, what in enumerate(("for", "work")):
            sums: Counter[str] = Counter()
            for names, count in found.stages.items():
                sums[names[place]] += count if what == "work" or names[1] != "backend" else 0
            print(f"  {what}: " + ", ".join(f"{name} {count}" for name, count in sums.most_common()))
        print(f"  and {found.views} views")
        for line, count in found.lines.most_common(arguments.lines):
            print(f"  {count:5} {line}")


if __name__ == "__main__":
    main()
