"""Speed receipt: what one measurement of speed found, as a file, with everything from which its verdicts follow.

It holds times and no verdict: who reads it works the ratios out again. It carries the receipt of the run that judged
the same kernels on the same cases first, since a wrong kernel has no speed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from attnconf.gate.receipt import PlatformRecord, Receipt
from attnconf.gate.sealed import Sealed
from attnconf.gate.speeds.cell import SpeedCell
from attnconf.speeds.verdicts import voids
from attnconf.values import Value, parse_json
from attnconf.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA: Literal["attnconf.speed/1"] = "attnconf.speed/1"

HARMFUL = ("hardware slowdown", "hardware thermal", "software thermal", "power brake")
"""Reasons of throttling that a machine must not have while it is measured. A power cap is part of its usual work."""

_Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Megahertz = Annotated[int, Field(ge=0, le=100_000, strict=True)]


class Clocks(Value):
    """What NVML said of the GPU while one process measured: the least and the largest of each reading.

    Clocks are in MHz, ``watts`` and ``celsius`` the largest. ``throttled`` are the reasons that held at any reading.
    """

    readings: Annotated[int, Field(ge=1, strict=True)]
    sm_mhz: tuple[_Megahertz, _Megahertz]
    memory_mhz: tuple[_Megahertz, _Megahertz]
    watts: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    celsius: Annotated[int, Field(ge=0, le=200, strict=True)] | None = None
    throttled: tuple[str, ...] = ()


class Process(Value):
    """One process that measured: its clocks, or why they are unknown."""

    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    clocks: Clocks | None = None
    unknown: str = ""


class Ceilings(Value):
    """What the machine reached in this measurement: bytes and operations a second.

    ``bytes`` are those that a large copy reads and writes. ``operations`` has those of a large matrix product by the
    dtype of its inputs.
    """

    bytes: _Rate
    operations: dict[str, _Rate]

    def limit(self, cell: SpeedCell) -> tuple[float, Literal["memory", "arithmetic"]] | None:
        """Return the microseconds below which no launch of ``cell`` can be here, and what sets them.

        None where the product was not measured in its dtype.
        """
        rate = self.operations.get(cell.q_dtype)
        if rate is None:
            return None
        moved, computed = 1e6 * cell.bytes / self.bytes, 1e6 * cell.operations / rate
        return (moved, "memory") if moved >= computed else (computed, "arithmetic")


class SpeedReceipt(Sealed):
    """What one ``attnconf bench`` measured.

    ``git_sha``, ``platform``, ``started`` and ``seconds`` are as in a receipt; a ``simulated`` platform says that no
    kernel was timed. ``seed`` drew the cases and the orders of the blocks. ``planted`` is by how many percent the
    candidate was slowed down on purpose. ``correctness`` is the receipt of the run that judged the same cases on the
    same backends. ``left_out`` says what was asked for and not timed, and why.
    """

    schema_id: Literal["attnconf.speed/1"] = Field(default=SCHEMA, alias="schema")
    attnconf: str = __version__
    git_sha: str | None
    platform: PlatformRecord
    started: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$")]
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    seed: Annotated[int, Field(ge=0)]
    l2_bytes: Annotated[int, Field(ge=0, strict=True)]
    cold_bytes: Annotated[int, Field(ge=0, strict=True)]
    planted: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = 0.0
    processes: Annotated[tuple[Process, ...], Field(max_length=64)]
    ceilings: Ceilings | None = None
    cells: Annotated[tuple[SpeedCell, ...], Field(max_length=1000)]
    left_out: tuple[str, ...] = ()
    correctness: Receipt

    @model_validator(mode="after")
    def _check(self) -> Self:
        places = [cell.place for cell in self.cells]
        if len(set(places)) != len(places):
            raise ValueError("cells of distinct questions, but two ask the same")
        most = max((len(cell.cold) for cell in self.cells), default=0)
        if most > len(self.processes):
            raise ValueError(f"a cell has blocks of {most} processes, and processes lists {len(self.processes)}")
        return self

    def faults(self) -> Iterator[str]:
        """Yield why nothing in it counts: a control that finds a difference, a machine that was held back, no proof."""
        if self.planted:
            yield f"its candidates were slowed down on purpose, by {self.planted:g} %"
        for cell in self.cells:
            control = cell.control_estimate()
            if control is None:
                yield f"{cell.text}: {cell.candidate.shown} was not timed against itself"
            elif voids(control):
                _, low, high = control.gain
                yield (
                    f"{cell.text}: {cell.candidate.shown} against itself differs by {low:+.1f} to {high:+.1f} %, so the"
                    " run is void"
                )
        for number, process in enumerate(self.processes, 1):
            if process.clocks is None:
                yield f"process {number}: clocks and throttling are unknown ({process.unknown or 'nothing says why'})"
            else:
                held = [reason for reason in process.clocks.throttled if reason in HARMFUL]
                if held:
                    yield f"process {number}: the GPU was held back ({', '.join(held)})"
        if self.cold_bytes <= self.l2_bytes:
            yield f"cold launches go over {self.cold_bytes} bytes, which L2 ({self.l2_bytes} bytes) holds"
        yield from _unjudged(self)


def _unjudged(receipt: SpeedReceipt) -> Iterator[str]:
    """Yield what of the timed kernels the correctness receipt does not show to be right."""
    right, where = receipt.correctness, receipt.correctness.platform
    if (where.device, where.sm, where.torch, where.simulated) != (
        receipt.platform.device, receipt.platform.sm, receipt.platform.torch, receipt.platform.simulated,
    ):  # fmt: skip
        yield f"its correctness receipt is from another machine, {where.machine}"
    if right.git_sha != receipt.git_sha:
        yield f"its correctness receipt is of commit {right.git_sha or 'none'}"
    if right.ending:
        yield f"its correctness receipt proves nothing: {right.ending}"
    for cell in receipt.cells:
        for side in (cell.candidate, cell.baseline):
            known = [
                one
                for one in right.cells
                if one.key == (side.shown, cell.model, cell.layer_kind, cell.mode, *cell.dtypes)
            ]
            if not any(one.passed for one in known) or any(one.broken for one in known):
                yield f"{cell.text}: the correctness receipt does not show that {side.shown} is right there"
            elif set(side.kernels) != set(side.judged):
                timed, judged = ", ".join(side.kernels), ", ".join(side.judged) or "none"
                yield f"{cell.text}: {side.shown} was timed with {timed}, and judged with {judged}"


def parse_speed(text: str, source: str) -> SpeedReceipt:
    """Read the ``text`` of a speed receipt; raise ``InvalidInputError`` for anything else.

    The correctness receipt in it is held against its own digest.
    """
    data = parse_json(text, source)
    found = SpeedReceipt.from_data(data, source)
    if isinstance(data, dict):
        Receipt.from_data(data["correctness"], f"{source}: correctness")
    return found


def is_speed(data: object) -> bool:
    """Whether the JSON ``data`` is, by its schema, a speed receipt of any number."""
    schema = data.get("schema") if isinstance(data, dict) else None
    return isinstance(schema, str) and schema.startswith("attnconf.speed/")
