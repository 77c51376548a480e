"""Repeats: whether the same call gives its bits again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.judging.execution import same_bits

if TYPE_CHECKING:
    from attnconf.judging.execution import Output
    from attnconf.judging.trial import Trial


_AGAIN = 3
"""Repetitions of a call before a difference is put down to another cause: what takes turns differs in one of them."""


def repeats(trial: Trial, layer: int) -> bool:
    """Return whether the base run's call gives its bits again, at once and after those of the other layers."""
    base, rows = trial.base(layer), slice(0, trial.posed.batch.num_rows)
    if not all(same_rows(trial.run(layer), base, rows) for _ in range(_AGAIN)):
        return False
    others = [other for other in trial.answered if other != layer]
    for other in others:
        trial.run(other)
    return not others or same_rows(trial.run(layer), base, rows)


def same_rows(one: Output, other: Output, rows: slice, other_rows: slice | None = None) -> bool:
    """Return whether ``rows`` of two runs have the same bits. The LSE is compared only if both have one."""
    of_other = rows if other_rows is None else other_rows
    return same_bits(one.out[rows], other.out[of_other]) and (
        one.lse is None or other.lse is None or same_bits(one.lse[rows], other.lse[of_other])
    )
