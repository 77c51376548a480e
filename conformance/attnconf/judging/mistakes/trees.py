"""Which drafts a row of a tree sees, and where its window begins (clauses 1 and 2)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from attnconf.cases import trees
from attnconf.clauses import Clause
from attnconf.judging.mistakes.mistake import Mistake, unless_alike

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.judging.mistakes.mistake import Apply
    from attnconf.judging.mistakes.scene import Scene
    from attnconf.oracle.problem import Problem


def _in_tree(change: Callable[[Scene], Problem | None]) -> Apply:
    def apply(scene: Scene) -> Problem | None:
        wrong = change(scene) if scene.spec.tree else None
        return None if wrong is None else unless_alike(scene.problem, wrong)

    return apply


def _as_chain(scene: Scene) -> Problem:
    """See all drafts before one's own, at positions that count them."""
    return replace(scene.problem, tree=(), positions=_places(scene))


def _places(scene: Scene) -> torch.Tensor:
    return torch.arange(scene.spec.prefix_len, scene.spec.kv_len)


def _adopted(scene: Scene) -> Problem:
    """See the sibling before one's own token, too, as a mask of ranges would: it becomes the parent."""
    tree = list(scene.spec.tree)
    for token, parent in enumerate(scene.spec.tree):
        older = [other for other in range(token) if scene.spec.tree[other] == parent]
        tree[token] = older[-1] if older else parent
    return replace(scene.problem, tree=tuple(tree))


def _window_by_place(scene: Scene) -> Problem | None:
    """Count the window and the chunk from a row's place among the drafts, and not from its depth."""
    bounded = scene.problem.window_left >= 0 or scene.problem.chunk_size is not None
    return replace(scene.problem, positions=_places(scene)) if bounded else None


def _orphaned(scene: Scene) -> Problem:
    """See the prefix and one's own token alone."""
    return replace(scene.problem, tree=(-1,) * len(scene.spec.tree))


def _siblings(scene: Scene) -> Problem | None:
    """See the prefix and one's own token alone, of the drafts of a chain."""
    problem = scene.problem
    if scene.case.mode != "verify" or scene.spec.tree or problem.spans or problem.window_left >= 0:
        return None
    drafts = scene.spec.new_tokens
    wrong = replace(problem, tree=(-1,) * drafts, tree_start=scene.spec.prefix_len, tokens=tuple(range(drafts)))
    return unless_alike(problem, wrong)


def _of_first(scene: Scene) -> Problem | None:
    """Take the tree of the batch's first request for each."""
    first = next((one.tree for one in scene.case.requests if one.new_tokens), ())
    tokens = scene.spec.new_tokens
    tree = trees.resized(first, tokens) or tuple(range(-1, tokens - 1))
    return replace(scene.problem, tree=tree)


TREES = (
    Mistake(
        "tree as a chain", "tree", Clause.CAUSAL, "the drafts of a tree are taken for a chain", _in_tree(_as_chain)
    ),
    Mistake(
        "sibling seen",
        "tree",
        Clause.CAUSAL,
        "a draft sees the one before it that has the same parent",
        _in_tree(_adopted),
    ),
    Mistake(
        "parents lost",
        "tree",
        Clause.CAUSAL,
        "a draft of a tree sees itself alone of all drafts",
        _in_tree(_orphaned),
        claimed=False,
    ),
    Mistake(
        "drafts alone",
        "causal",
        Clause.CAUSAL,
        "a draft of a chain sees the prefix and itself, and no draft before it",
        _siblings,
        claimed=False,
    ),
    Mistake(
        "window by place",
        "tree",
        Clause.WINDOW,
        "the window of a draft is counted from its place among the drafts, not from its depth",
        _in_tree(_window_by_place),
        claimed=False,
    ),
    Mistake(
        "tree of the first",
        "tree",
        Clause.CAUSAL,
        "each request gets the tree of the batch's first one",
        _in_tree(_of_first),
        claimed=False,
    ),
)
