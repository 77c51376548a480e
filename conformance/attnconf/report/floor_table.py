"""The table of floors: what each release of flashinfer-python has, as a Markdown page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.backends.flashinfer.floors import EXECUTED, FLOORS
from attnconf.backends.flashinfer.trtllm_gen.releases import RELEASES

if TYPE_CHECKING:
    from attnconf.backends.flashinfer.trtllm_gen.releases import Release

_HEAD = """\
# Floors of FlashInfer's releases

What some release of flashinfer-python lacks, from 0.6.10.post1 to the newest of the package index: read in the source
of every wheel, so a floor is the first release that has the code, not the first that was run. Written by

    python -m attnconf.report.floor_table > fixtures/evidence/FLOORS.md
"""


def floors_page() -> str:
    """Return the page."""
    lines = [_HEAD, "| | capability | since | from | where it shows | before |", "|---|---|---|---|---|---|"]
    for number, floor in enumerate(FLOORS, start=1):
        lines.append(
            f"| {number} | {floor.what} | {floor.since} | {floor.origin} | `{floor.source}` | {floor.before} |"
        )
    numbers = range(1, len(FLOORS) + 1)
    lines += [
        "",
        "fa3 has no floor of its own: `attention/hopper/prefill_sm90.cuh` is the same in all of them.",
        "",
        f"| release | {' | '.join(map(str, numbers))} | SM100 kernels | executed |",
        f"|---|{'---|' * len(numbers)}---|---|",
        *map(_row, RELEASES),
        "",
        "SM100 kernels: whether attnconf can tell which trtllm-gen kernels exist and which one is chosen. From 0.6.18",
        "on the list that a release names is not in the package index, and its selector has no model. `executed` is",
        "of receipts on a GPU.",
    ]
    return "\n".join(lines) + "\n"


def _row(release: Release) -> str:
    marks = ["yes" if release.version >= floor.since else "-" for floor in FLOORS]
    listed = "unknown" if release.rules is None else "list and selector"
    ran = EXECUTED.get(str(release.version), "")
    return f"| {release.version} | {' | '.join(marks)} | {listed}, `{release.kernels.short}` | {ran} |"


if __name__ == "__main__":
    import sys

    sys.stdout.write(floors_page())
