"""Speed cell: the times of two backends on one layer of one case, and what that layer must move and compute."""

from __future__ import annotations

import statistics
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from attnconf.backends.protocol import EvidenceKind, shown_name
from attnconf.cases.case import Mode
from attnconf.cases.dtypes import Dtypes, KVDtype, OutDtype, QDtype
from attnconf.cases.geometry import CellKind
from attnconf.speeds.blocks import Block
from attnconf.speeds.estimate import Estimate, estimate
from attnconf.values import Value

Cache = Literal["cold", "warm"]
Text = Annotated[str, Field(min_length=1, max_length=300)]
Amount = Annotated[int, Field(ge=1, le=10**18, strict=True)]

MOST_PROCESSES = 64
MOST_BLOCKS = 1000

Series = Annotated[
    tuple[Annotated[tuple[Block, ...], Field(max_length=MOST_BLOCKS)], ...], Field(max_length=MOST_PROCESSES)
]
"""The blocks of each process, in the order of the processes."""


class Side(Value):
    """One backend of a cell: the kernels that a timed launch ran, and what its metadata cost apart from them.

    ``judged`` are the kernels that the correctness run of the same case ran. ``prepare_micros`` is the median wall time
    on the host from a batch to its first launch, metadata and plan included, which no ratio contains.
    """

    backend: Text
    evidence: EvidenceKind = "kernel"
    kernels: Annotated[tuple[Text, ...], Field(min_length=1, max_length=20)]
    judged: Annotated[tuple[Text, ...], Field(max_length=20)]
    prepare_micros: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None

    @property
    def shown(self) -> str:
        """The backend as a reader sees it."""
        return shown_name(self.backend, self.evidence)


class SpeedCell(Value):
    """A candidate (A) against a baseline (B) on one layer of a case, whose size ``load`` says in words.

    Both may be one backend: that is a trial of the measurement, of which no claim is proven. ``model`` has its shard
    suffix, as in receipts. ``bytes`` is what a launch must read and write at least, and ``operations`` the
    multiplications and additions of its two products (2 for each pair). One time is the mean of
    ``launches`` or a multiple of them. ``cold`` are blocks whose launches find nothing of their inputs in L2, ``warm``
    those that find what fits, and ``control`` is A against itself, prepared and captured anew, cold.
    """

    case: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
    layer: Annotated[int, Field(ge=0, le=1000, strict=True)]
    load: Text
    model: Text
    layer_kind: CellKind
    mode: Mode
    q_dtype: QDtype
    kv_dtype: KVDtype
    out_dtype: OutDtype | None = None
    candidate: Side
    baseline: Side
    bytes: Amount
    operations: Amount
    launches: Annotated[int, Field(ge=1, le=10**6, strict=True)]
    cold: Series
    warm: Series = ()
    control: Series = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not any(self.cold):
            raise ValueError("cold has no block")
        return self

    @property
    def place(self) -> tuple[str, ...]:
        """What is compared where: a later receipt has the same one for the same question."""
        sides = (self.candidate.shown, self.baseline.shown)
        return (*sides, self.model, self.layer_kind, self.mode, *self.dtypes, self.load)

    @property
    def dtypes(self) -> Dtypes:
        """The dtypes of queries, KV and answer."""
        return Dtypes(self.q_dtype, self.kv_dtype, self.out_dtype or self.q_dtype)

    @property
    def text(self) -> str:
        """The question in words, without the sides."""
        return f"{self.model} {self.layer_kind} {self.mode} {self.dtypes.text}, {self.load}"

    @property
    def versus(self) -> str:
        """The two sides in words."""
        return f"{self.candidate.shown} over {self.baseline.shown}"

    def estimate(self, cache: Cache = "cold") -> Estimate | None:
        """Return the ratio of speeds, candidate over baseline; None where nothing was timed so."""
        return _estimate(self.cold if cache == "cold" else self.warm)

    def control_estimate(self) -> Estimate | None:
        """Return the ratio of the candidate's speed over its own, None where it was not timed."""
        return _estimate(self.control)

    def micros(self, side: Literal["A", "B"], cache: Cache = "cold") -> float | None:
        """Return the median time of one launch of a side in microseconds, None where it was not timed."""
        series = self.cold if cache == "cold" else self.warm
        times = [time for blocks in series for block in blocks for time in block.of(side)]
        return statistics.median(times) if times else None


def _estimate(series: Series) -> Estimate | None:
    ratios = [[block.log_ratio for block in blocks] for blocks in series]
    return estimate(ratios) if any(ratios) else None
