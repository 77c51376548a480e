"""Speed rows: what every report says of a timed question, worked out from the blocks once."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from attnconf.speeds.verdicts import difference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnconf.gate.speeds.cell import SpeedCell
    from attnconf.gate.speeds.speed_receipt import SpeedReceipt
    from attnconf.speeds.estimate import Estimate

_MARGIN = 0.02
"""How far the scale of a forest plot reaches beyond what it shows, as a logarithm."""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Speed of the candidate over the baseline, its interval, and what that says; ``lack`` is why it says nothing."""

    ratio: float
    low: float
    high: float
    verdict: str
    lack: str = ""

    @property
    def text(self) -> str:
        """The ratio with its interval."""
        return f"{self.ratio:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True, kw_only=True)
class SpeedRow:
    """One question: ``versus`` whom, ``what`` was asked, cold and warm ratios and the candidate's control.

    ``micros`` are the median cold microseconds of a launch, candidate first, and ``share`` the parts of the limit that
    these reach, 1 at the limit; ``bound`` is what sets it. ``prepare`` are the host's microseconds.
    """

    versus: str
    what: str
    cold: Ratio
    warm: Ratio | None
    control: Ratio | None
    micros: tuple[float, float]
    share: tuple[float, float] | None
    bound: str
    kernels: tuple[str, str]
    prepare: tuple[float | None, float | None]

    @property
    def share_text(self) -> str:
        """The shares of the limit of both sides, in percent."""
        if self.share is None:
            return "limit unknown"
        return f"{100 * self.share[0]:.0f} % and {100 * self.share[1]:.0f} % of {self.bound}"


@dataclass(frozen=True)
class SpeedReport:
    """One receipt as reports show it; ``faults`` are why nothing in it counts."""

    name: str
    receipt: SpeedReceipt
    rows: tuple[SpeedRow, ...]
    faults: tuple[str, ...]

    @property
    def machine(self) -> str:
        """The device in words."""
        return self.receipt.platform.machine

    @property
    def how(self) -> str:
        """How it was measured, in words."""
        count = len(self.receipt.processes)
        ceilings = self.receipt.ceilings
        limits = ""
        if ceilings is not None:
            products = ", ".join(f"{rate / 1e12:.0f} TFLOP/s {name}" for name, rate in ceilings.operations.items())
            limits = f"; ceilings {ceilings.bytes / 1e12:.2f} TB/s, {products}"
        return f"{count} {'process' if count == 1 else 'processes'}, ABBA blocks of graph replays{limits}"

    def to_data(self) -> dict[str, Any]:
        """Return it as plain JSON data."""
        return {
            "name": self.name,
            "machine": self.machine,
            "git_sha": self.receipt.git_sha,
            "faults": list(self.faults),
            "left_out": list(self.receipt.left_out),
            "rows": [asdict(row) for row in self.rows],
        }


def speed_reports(receipts: Mapping[str, SpeedReceipt]) -> list[SpeedReport]:
    """Return what is said of receipts, by the names of their files."""
    return [
        SpeedReport(name, one, tuple(_row(one, cell) for cell in one.cells), tuple(one.faults()))
        for name, one in receipts.items()
    ]


def _row(receipt: SpeedReceipt, cell: SpeedCell) -> SpeedRow:
    cold = cell.estimate()
    candidate, baseline = cell.micros("A"), cell.micros("B")
    if cold is None or candidate is None or baseline is None:
        raise ValueError(f"{cell.text} has no cold block")
    limit = None if receipt.ceilings is None else receipt.ceilings.limit(cell)
    return SpeedRow(
        versus=cell.versus,
        what=cell.text,
        cold=_of(cold),
        warm=_maybe(cell.estimate("warm")),
        control=_maybe(cell.control_estimate()),
        micros=(candidate, baseline),
        share=None if limit is None else (limit[0] / candidate, limit[0] / baseline),
        bound="" if limit is None else limit[1],
        kernels=(", ".join(cell.candidate.kernels), ", ".join(cell.baseline.kernels)),
        prepare=(cell.candidate.prepare_micros, cell.baseline.prepare_micros),
    )


def _of(found: Estimate) -> Ratio:
    return Ratio(ratio=found.ratio, low=found.low, high=found.high, verdict=difference(found), lack=found.lack)


def _maybe(found: Estimate | None) -> Ratio | None:
    return None if found is None else _of(found)


@dataclass(frozen=True)
class Scale:
    """A logarithmic scale from ``least`` to ``most``, which holds 1: equal speed."""

    least: float
    most: float

    def place(self, ratio: float) -> float:
        """Return where ``ratio`` lies, in percent from the left."""
        low, high = math.log(self.least), math.log(self.most)
        return 100 * min(1.0, max(0.0, (math.log(ratio) - low) / (high - low)))


def scale_of(rows: Sequence[SpeedRow]) -> Scale:
    """Return a scale on which every interval of ``rows`` lies."""
    ends = [math.log(one) for row in rows for one in (row.cold.low, row.cold.high)]
    return Scale(math.exp(min([0.0, *ends]) - _MARGIN), math.exp(max([0.0, *ends]) + _MARGIN))
