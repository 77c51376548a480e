"""The batches over which a captured one is replayed: shorter ones, fewer live requests, other query lengths."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.cases.sight import follows_tree

if TYPE_CHECKING:
    from attnconf.cases.case import Case
    from attnconf.cases.request import Request
    from attnconf.cases.trees import Tree


def shorter(case: Case) -> Case:
    """Return ``case`` with shorter prefixes (the last one empty), other trees and seed, and no shared pages."""
    last = len(case.requests) - 1
    requests = tuple(
        request.resized(0 if index == last else request.prefix_len // 2, request.new_tokens).model_copy(
            update={"shares_with": None, "shared_pages": 0, "tree": _another(request.tree)}
        )
        for index, request in enumerate(case.requests)
    )
    return case.model_copy(update={"requests": requests, "seed": case.seed ^ 1})


def _another(tree: Tree) -> Tree:
    """Return another tree of as many drafts: all from the prefix, or in pairs."""
    flat = (-1,) * len(tree)
    return flat if tree != flat else tuple(max(-1, token - 2) for token in range(len(tree)))


def fewer_live(case: Case, *, empty_kv: bool) -> Case | None:
    """Return the first requests of ``case`` with padding in the place of the others, or None if there is no such case.

    Each padding request brings as many query tokens as the captured request in its place, over no key, or over the null
    page where rows over no key are not promised (``empty_kv``): sglang fills captured lengths with 1.
    """
    live = 1 + case.seed % max(1, len(case.requests) - 1)
    found = case.model_copy(
        update={
            "requests": case.requests[:live],
            "padding_rows": case.padding_rows + len(case.requests) - live,
            "padding_kv_len": case.padding_kv_len if case.padding_rows else int(not empty_kv),
            "seed": case.seed ^ 2,
        }
    )
    alike = live < len(case.requests) and query_lens(found) == query_lens(case)
    return found if alike and follows_tree(found.requests) == follows_tree(case.requests) else None


def other_lengths(case: Case) -> Case | None:
    """Return some of the first requests of ``case``, in a verify step with fewer drafts, or None for no such case.

    The requests behind are gone, and bring no query token, as vLLM pads: see ``load`` of ``static_memory.py``.
    """
    longest = max(range(len(case.requests)), key=lambda index: case.requests[index].new_tokens)
    live = max(longest + 1, 1 + case.seed % len(case.requests)) if case.mode == "verify" else len(case.requests) // 2
    if live == 0:
        return None
    requests = case.requests[:live]
    if case.mode == "verify":
        requests = tuple(_with_fewer(one, case.seed + i, 2 if i == longest else 1) for i, one in enumerate(requests))
    found = case.model_copy(update={"requests": requests, "padding_rows": 0, "seed": case.seed ^ 4})
    changed = query_lens(found) != query_lens(case)
    return found if changed and follows_tree(found.requests) == follows_tree(case.requests) else None


def _with_fewer(request: Request, turn: int, least: int) -> Request:
    """Return ``request`` with fewer query tokens, but ``least`` if it has so many; a tree must remain one."""
    tokens = request.new_tokens
    if tokens <= least:
        return request
    fewer = request.resized(request.prefix_len, max(least, tokens - 1 - turn % (tokens - 1)))
    return fewer if bool(fewer.tree) == bool(request.tree) else request


def query_lens(case: Case) -> tuple[int, ...]:
    """Return the query tokens of each request of the batch, those of padding rows last."""
    return (*(request.new_tokens for request in case.requests), *[case.padding_tokens] * case.padding_rows)
