"""How far a row of a span sees: spans that are ignored, moved, joined or followed by every layer (clause 1)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from attnconf.clauses import Clause
from attnconf.judging.mistakes.mistake import Mistake, unless_alike
from attnconf.oracle.attention import attend
from attnconf.oracle.problem import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.cases.request import Span
    from attnconf.judging.mistakes.mistake import Apply
    from attnconf.judging.mistakes.scene import Scene
    from attnconf.oracle.problem import Problem


def _spans(change: Callable[[Scene], tuple[Span, ...]]) -> Apply:
    """Let the layer follow the spans that ``change`` returns, in place of its own."""

    def apply(scene: Scene) -> Problem | None:
        return unless_alike(scene.problem, replace(scene.problem, spans=change(scene)))

    return apply


def _followed(change: Callable[[Scene], tuple[Span, ...]]) -> Apply:
    """Change the spans of a layer that follows spans."""
    return _spans(lambda scene: change(scene) if scene.case.layers[scene.layer].spans else ())


def _neighbours(scene: Scene) -> tuple[Span, ...]:
    requests = scene.case.requests
    return requests[(scene.request + 1) % len(requests)].spans


def _joined(scene: Scene) -> tuple[Span, ...]:
    spans = scene.spec.spans
    return ((spans[0][0], spans[-1][1]),) if spans else ()


def _from_chunk(scene: Scene) -> tuple[Span, ...]:
    prefix = scene.spec.prefix_len
    return tuple((begin + prefix, end + prefix) for begin, end in scene.spec.spans)


def _beyond_the_window(scene: Scene) -> Answer | None:
    """Let each row of a span see all of the span, what lies behind its window, too."""
    problem = scene.problem
    if problem.window_left < 0:
        return None
    windows = [_window_over(problem, position) for position in problem.positions.tolist()]
    if all(window == problem.window_left for window in windows):
        return None
    parts = []
    for row, window in enumerate(windows):
        own = problem.of_rows([row], problem.q[row : row + 1], problem.positions[row : row + 1])
        parts.append(attend(replace(own, window_left=window)))
    return Answer(torch.cat([part.out for part in parts]), torch.cat([part.lse for part in parts]))


def _window_over(problem: Problem, position: int) -> int:
    """Return the window of the row at ``position`` that reaches the first token of its span."""
    begins = [begin for begin, end in problem.spans if begin <= position < end]
    return max([problem.window_left, *(position - begin for begin in begins)])


SPANS = (
    Mistake(
        "spans off",
        "spans",
        Clause.CAUSAL,
        "the tokens of a span see each other causally",
        _spans(lambda _scene: ()),
    ),
    Mistake(
        "span end lost",
        "spans",
        Clause.CAUSAL,
        "the last token of a span is not seen by those before it",
        _followed(lambda scene: tuple((begin, min(end, scene.spec.kv_len) - 1) for begin, end in scene.problem.spans)),
    ),
    Mistake(
        "span beyond the window",
        "spans",
        Clause.WINDOW,
        "the tokens of a span see all of it, also what their window has left behind",
        _beyond_the_window,
        claimed=False,
    ),
    Mistake(
        "span too long",
        "spans",
        Clause.CAUSAL,
        "the tokens of a span see the token behind it",
        _followed(lambda scene: tuple((begin, end + 1) for begin, end in scene.problem.spans)),
        claimed=False,
    ),
    Mistake(
        "spans joined",
        "spans",
        Clause.CAUSAL,
        "all spans of a request are taken for one",
        _followed(_joined),
        claimed=False,
    ),
    Mistake(
        "spans of the chunk",
        "spans",
        Clause.CAUSAL,
        "the tokens of a span are counted from the first new token, not from the request's first",
        _followed(_from_chunk),
        claimed=False,
    ),
    Mistake(
        "neighbour's spans",
        "spans",
        Clause.CAUSAL,
        "the spans of the next request are followed",
        _followed(_neighbours),
        claimed=False,
    ),
    Mistake(
        "spans everywhere",
        "spans",
        Clause.CAUSAL,
        "a causal layer follows the spans of others",
        _spans(lambda scene: scene.spec.spans),
        claimed=False,
    ),
)
