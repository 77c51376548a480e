"""Verdicts: what an estimate says of a claimed gain, of two sides without a claim, and of its own control."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from attnconf.speeds.estimate import Estimate

ClaimVerdict = Literal["proven", "at least", "refuted", "undecided"]
Difference = Literal["faster", "slower", "no difference", "undecided"]

RESOLUTION = 0.01
"""The smallest ratio beside 1 that is called a difference: one part in a hundred.

What is smaller is the place of a buffer as much as it is a kernel. It also keeps twenty comparisons of a kernel with
itself quiet, of which one is outside of an interval of 95 % by its nature.
"""


def judge_gain(found: Estimate, at_least: float, at_most: float | None) -> ClaimVerdict:
    """Hold the gain of speed that was ``found`` against a claim of ``at_least`` (to ``at_most``) percent.

    ``proven``: the whole interval lies within the claim. ``at least``: it lies above its lower end, and not below its
    upper one, so no less was gained than claimed. ``refuted``: it lies below the lower end. Everything else is
    ``undecided``, and so is what too few blocks or processes found.
    """
    _, low, high = found.gain
    if found.lack or low < at_least <= high:
        return "undecided"
    if high < at_least:
        return "refuted"
    return "proven" if at_most is None or high <= at_most else "at least"


def difference(found: Estimate) -> Difference:
    """Return whether the candidate is faster or slower by more than the resolution, or the same to within it."""
    if found.lack:
        return "undecided"
    if found.low > 1 + RESOLUTION:
        return "faster"
    if found.high < 1 - RESOLUTION:
        return "slower"
    return "no difference" if found.low >= 1 - RESOLUTION and found.high <= 1 + RESOLUTION else "undecided"


def voids(control: Estimate) -> bool:
    """Return whether a control, which timed a kernel against itself, found a difference: nothing of its run counts."""
    return difference(control) in {"faster", "slower"}
