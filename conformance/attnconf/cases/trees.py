"""Trees of draft tokens, written as parents: which new tokens each one sees, and how deep it stands.

Token i of a verify step has a parent among the tokens before it, or -1 for the last token of the prefix. A row sees the
whole prefix and, of the new tokens, its own branch: itself and its parents. Its position is that of the prefix and its
depth, whatever its place among the tokens. sglang's ``build_tree_kernel_efficient`` makes that mask and those positions
of an EAGLE tree, whose token 0 is the last accepted one; FlashInfer's ``custom_mask`` and XQA's mask of drafts are the
same rows of bits, and say no positions.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Tree = tuple[int, ...]


def is_chain(tree: Iterable[int]) -> bool:
    """Return whether each token of ``tree`` is the parent of the next one: what a step without a tree has."""
    return all(after == before + 1 for before, after in pairwise((-2, *tree)))


def check(tree: Tree, tokens: int) -> None:
    """Raise ``ValueError`` unless ``tree`` has a parent for each of ``tokens``, before it."""
    if len(tree) != tokens:
        raise ValueError(f"tree has a parent for each of the {tokens} new tokens, and not {len(tree)}")
    wrong = next((index for index, parent in enumerate(tree) if parent >= index), None)
    if wrong is not None:
        allowed = f"-1 to {wrong - 1}" if wrong else "-1"
        raise ValueError(f"tree: the parent of token {wrong} is {tree[wrong]}; allowed: {allowed}")


def resized(tree: Tree, tokens: int) -> Tree:
    """Return ``tree`` with so many tokens: its first ones, or with a chain behind its last one."""
    kept = (*tree[:tokens], *range(len(tree) - 1, tokens - 1)) if tree else ()
    return () if is_chain(kept) else kept


@lru_cache(maxsize=4096)
def depths(tree: Tree) -> Tree:
    """Return how many parents each token has."""
    found: list[int] = []
    for parent in tree:
        found.append(0 if parent < 0 else found[parent] + 1)
    return tuple(found)


@lru_cache(maxsize=4096)
def branch(tree: Tree, token: int) -> Tree:
    """Return the tokens that ``token`` sees, in order: its parents and itself."""
    found = []
    while token >= 0:
        found.append(token)
        token = tree[token]
    return tuple(reversed(found))
