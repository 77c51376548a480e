"""Process: what one process of a bench does, question by question, and what it hands back."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from attnconf.errors import AttnconfError, one_line
from attnconf.running.bench.rounds import time_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnconf.gate.speeds.speed_receipt import Ceilings, Process
    from attnconf.running.bench.questions import Question
    from attnconf.running.bench.rounds import Timed
    from attnconf.speeds.blocks import Block


OVER = "the time was over; --seconds gives more"


class NotTimedError(AttnconfError):
    """A question that cannot be timed: the sentence says why."""


@dataclass(frozen=True)
class Pair:
    """Both sides of a question, ready to be timed. ``bytes`` is over how many the cold launches go."""

    cold: tuple[Timed, Timed]
    warm: tuple[Timed, Timed]
    again: Timed
    kernels: tuple[str, str]
    prepare_micros: tuple[float, float]
    launches: int
    bytes: int


class Device(Protocol):
    """What times launches."""

    @property
    def l2_bytes(self) -> int:
        """The size of its L2 cache."""
        ...

    def ceilings(self, dtypes: Sequence[str]) -> Ceilings:
        """Measure what it reaches, with products in these dtypes."""
        ...

    def pair(self, question: Question) -> Pair:
        """Make both sides of a question ready. Raises ``NotTimedError``, and what a backend raises."""
        ...

    def release(self) -> None:
        """Give back what the last pair held."""
        ...

    def process(self, seconds: float) -> Process:
        """Return what is to be said of this process, which took so long."""
        ...


@dataclass(frozen=True)
class Answer:
    """What one process measured of one question."""

    cold: tuple[Block, ...]
    warm: tuple[Block, ...]
    control: tuple[Block, ...]
    kernels: tuple[str, str]
    prepare_micros: tuple[float, float]
    launches: int
    bytes: int


@dataclass
class Measured:
    """What one process measured: answers by the index of their question, and why others have none."""

    process: Process
    l2_bytes: int
    ceilings: Ceilings | None
    answers: dict[int, Answer] = field(default_factory=dict)
    left_out: dict[int, str] = field(default_factory=dict)


def measure(  # noqa: PLR0913 - what is timed, on what, how long
    questions: Sequence[Question], device: Device, *, number: int, blocks: int, seed: int, seconds: float
) -> Measured:
    """Time the questions in process ``number``; none is begun after ``seconds``. The first process has the ceilings."""
    started = time.monotonic()
    ceilings = device.ceilings(sorted({one.case.q_dtype for one in questions})) if number == 0 else None
    answers: dict[int, Answer] = {}
    left_out: dict[int, str] = {}
    for index, question in enumerate(questions):
        if time.monotonic() - started >= seconds:
            left_out[index] = OVER
            continue
        try:
            answers[index] = _answer(device.pair(question), blocks, f"{seed}/{number}/{index}")
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a backend may raise anything
            left_out[index] = str(error) if isinstance(error, NotTimedError) else one_line(error)
        finally:
            device.release()
    process = device.process(time.monotonic() - started)
    return Measured(process, device.l2_bytes, ceilings, answers, left_out)


def _answer(pair: Pair, blocks: int, key: str) -> Answer:
    return Answer(
        cold=time_blocks(*pair.cold, blocks, f"{key}/cold"),
        control=time_blocks(pair.cold[0], pair.again, blocks, f"{key}/control"),
        warm=time_blocks(*pair.warm, blocks, f"{key}/warm"),
        kernels=pair.kernels,
        prepare_micros=pair.prepare_micros,
        launches=pair.launches,
        bytes=pair.bytes,
    )
