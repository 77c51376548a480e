"""Layers in which all tokens of a request see each other: taken for causal ones, or cut at the wrong place."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from attnconf.clauses import Clause
from attnconf.judging.mistakes.mistake import Mistake, unless_alike

if TYPE_CHECKING:
    from attnconf.judging.mistakes.mistake import Apply
    from attnconf.judging.mistakes.scene import Scene
    from attnconf.oracle.problem import Problem


def _as_causal(scene: Scene) -> Problem | None:
    return None if scene.problem.causal else unless_alike(scene.problem, replace(scene.problem, causal=True))


def _right_end(change: int | None) -> Apply:
    """Move the right end of the window, or leave it out."""

    def apply(scene: Scene) -> Problem | None:
        right = scene.problem.window_right
        if scene.problem.causal or right < 0 or (change is not None and right + change < 0):
            return None
        moved = -1 if change is None else right + change
        return unless_alike(scene.problem, replace(scene.problem, window_right=moved))

    return apply


BIDIRECTIONAL = (
    Mistake(
        "bidirectional as causal",
        "bidirectional",
        Clause.CAUSAL,
        "a row of a bidirectional layer does not see the tokens behind it",
        _as_causal,
    ),
    Mistake(
        "window without a right end",
        "bidirectional",
        Clause.WINDOW,
        "the window of a bidirectional layer cuts the old end alone",
        _right_end(None),
    ),
    Mistake(
        "right end one more",
        "bidirectional",
        Clause.WINDOW,
        "one key too many at the right end of the window of a bidirectional layer",
        _right_end(1),
        claimed=False,
    ),
    Mistake(
        "right end one less",
        "bidirectional",
        Clause.WINDOW,
        "the last key of the window of a bidirectional layer is lost",
        _right_end(-1),
        claimed=False,
    ),
)
