"""Chunked layers: chunks that are ignored, slide, are moved, or begin elsewhere (clause 2)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from attnconf.clauses import Clause
from attnconf.judging.mistakes.mistake import Mistake, unless_alike

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.judging.mistakes.mistake import Apply
    from attnconf.judging.mistakes.scene import Scene
    from attnconf.oracle.problem import Problem


def _chunked(change: Callable[[Scene, int], Problem | None]) -> Apply:
    """Change the question of a chunked layer, which ``change`` gets with its chunk size."""

    def apply(scene: Scene) -> Problem | None:
        size = scene.problem.chunk_size
        wrong = None if size is None else change(scene, size)
        return None if wrong is None else unless_alike(scene.problem, wrong)

    return apply


def _resized(step: int) -> Apply:
    return _chunked(
        lambda scene, size: replace(scene.problem, chunk_size=size + step) if size + step > 0 else None,
    )


def _from_prefix(scene: Scene, _size: int) -> Problem | None:
    """Count chunks from the first new token, as if a prefill's own pieces were they; the prefix is in none of them."""
    prefix, problem = scene.spec.prefix_len, scene.problem
    if not prefix:
        return None
    return replace(
        problem,
        positions=problem.positions - prefix,
        start=problem.start - prefix,
        tree_start=problem.tree_start - prefix,
    )


def _of_another(scene: Scene, size: int) -> Problem | None:
    sizes = [one.chunk_size for one in scene.case.layers if one.chunk_size not in {None, size}]
    return replace(scene.problem, chunk_size=sizes[0]) if sizes else None


CHUNKS = (
    Mistake(
        "chunks off",
        "chunk",
        Clause.WINDOW,
        "the chunks of a chunked layer are ignored",
        _chunked(lambda scene, _size: replace(scene.problem, chunk_size=None)),
    ),
    Mistake(
        "chunks slide",
        "chunk",
        Clause.WINDOW,
        "the chunk size is taken for a window: each row sees as many keys before it",
        _chunked(lambda scene, size: replace(scene.problem, chunk_size=None, window_left=size - 1)),
    ),
    Mistake(
        "chunk one longer",
        "chunk",
        Clause.WINDOW,
        "chunks are one token too long, so their borders move",
        _resized(1),
        claimed=False,
    ),
    Mistake(
        "chunk one shorter",
        "chunk",
        Clause.WINDOW,
        "chunks are one token too short, so their borders move",
        _resized(-1),
        claimed=False,
    ),
    Mistake(
        "chunks of the block",
        "chunk",
        Clause.WINDOW,
        "chunks are counted from the first new token, not from the request's first",
        _chunked(_from_prefix),
        claimed=False,
    ),
    Mistake(
        "chunks of another layer",
        "chunk",
        Clause.WINDOW,
        "the chunk size of another layer is taken",
        _chunked(_of_another),
        claimed=False,
    ),
)
