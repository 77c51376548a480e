"""Estimate: the ratio of two speeds with an interval, from blocks that were timed in several processes.

The ratio is the median of the log ratios of all blocks: a block that something else disturbed moves it little. Blocks
of one process share what that process has, such as the addresses of its buffers, so they are no independent evidence.
The bootstrap is hierarchical for that reason: it draws processes, then blocks within each.

A percentile interval over few processes is too narrow. It is expanded as Hesterberg proposes ("What Teachers Should
Know About the Bootstrap", The American Statistician 69, 2015, section 3.3): its tails are those at which Student's t
for one degree of freedom fewer than processes lies, times sqrt(n / (n - 1)). With three processes that is all that was
drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIDENCE = 0.95
"""How often the interval holds the ratio."""

LEAST_PROCESSES = 3
"""With fewer, nothing says how much processes differ."""

LEAST_BLOCKS = 6
"""Blocks of each process, below which its median is a single one's accident."""

LEAST_PAIRS = 3
"""Pairs of runs of a whole program, of which each pair has both sides behind each other."""

_RESAMPLES = 4000
_SEED = 20_261_129
"""The bootstrap draws the same every time: who judges the same times again gets the same interval."""

_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""The 97.5 % quantile of Student's t for 1, 2, ... degrees of freedom; beyond 30 the last one is close enough."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A ratio of speeds, above 1 where the candidate is faster, and the interval ``low`` to ``high`` around it.

    It rests on ``blocks`` in ``processes``. ``lack`` says why they are too few for any verdict, empty if they are not.
    """

    ratio: float
    low: float
    high: float
    processes: int
    blocks: int
    lack: str = ""

    @property
    def gain(self) -> tuple[float, float, float]:
        """The gain of speed in percent: its estimate, and the ends of its interval."""
        return tuple(100 * (one - 1) for one in (self.ratio, self.low, self.high))  # type: ignore[return-value]


def estimate(log_ratios: Sequence[Sequence[float]]) -> Estimate:
    """Return the ratio of the blocks in ``log_ratios``, one sequence for each process that timed at least one.

    Raises ``ValueError`` without a block.
    """
    series = [np.asarray(one, dtype=np.float64) for one in log_ratios if len(one)]
    if not series:
        raise ValueError("no block was timed, so there is no ratio")
    middle = float(np.median(np.concatenate(series)))
    low, high = _interval(series)
    return Estimate(
        ratio=math.exp(middle),
        low=math.exp(min(low, middle)),
        high=math.exp(max(high, middle)),
        processes=len(series),
        blocks=sum(map(len, series)),
        lack=_lack(series),
    )


def estimate_pairs(log_ratios: Sequence[float]) -> Estimate:
    """Return the ratio of paired runs of whole programs, such as servers: their geometric mean with Student's interval.

    So few pairs are no material for a bootstrap. Raises ``ValueError`` without a pair.
    """
    if not log_ratios:
        raise ValueError("no pair was run, so there is no ratio")
    values = np.asarray(log_ratios, dtype=np.float64)
    count, middle = len(values), float(values.mean())
    reach = 0.0
    if count > 1:
        reach = _T[min(count - 1, len(_T)) - 1] * float(values.std(ddof=1)) / math.sqrt(count)
    return Estimate(
        ratio=math.exp(middle),
        low=math.exp(middle - reach),
        high=math.exp(middle + reach),
        processes=count,
        blocks=count,
        lack=f"it was run in {count} pairs, and {LEAST_PAIRS} are needed" if count < LEAST_PAIRS else "",
    )


def _lack(series: Sequence[np.ndarray]) -> str:
    if len(series) < LEAST_PROCESSES:
        return f"{len(series)} processes timed it, and {LEAST_PROCESSES} are needed"
    fewest = min(map(len, series))
    return f"a process timed {fewest} blocks of it, and {LEAST_BLOCKS} are needed" if fewest < LEAST_BLOCKS else ""


def _interval(series: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return the ends of the interval of the median, as logarithms."""
    generator = np.random.default_rng(_SEED)
    count, most = len(series), max(map(len, series))
    lengths = np.array([len(one) for one in series])
    padded = np.stack([np.pad(one, (0, most - len(one))) for one in series])
    processes = generator.integers(0, count, size=(_RESAMPLES, count))
    places = generator.random((_RESAMPLES, count, most)) * lengths[processes][:, :, None]
    drawn = padded[processes[:, :, None], places.astype(np.int64)]
    medians = np.median(drawn.reshape(_RESAMPLES, -1), axis=1)
    tail = _tail(count)
    low, high = np.quantile(medians, [tail, 1 - tail])
    return float(low), float(high)


def _tail(processes: int) -> float:
    """Return the share of resamples beyond each end of the interval."""
    if processes < 2:  # noqa: PLR2004 - one process has no degree of freedom
        return 0.0
    quantile = _T[min(processes - 1, len(_T)) - 1]
    return NormalDist().cdf(-quantile * math.sqrt(processes / (processes - 1)))
