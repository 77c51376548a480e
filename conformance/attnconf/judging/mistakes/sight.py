"""Which keys a row sees: causality, windows, prefixes, and lengths (clauses 1, 2 and 5)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from attnconf.cases.inputs.poison import bits
from attnconf.clauses import Clause
from attnconf.judging.mistakes.mistake import Mistake, unless_alike
from attnconf.oracle.attention import attend
from attnconf.oracle.problem import Answer

if TYPE_CHECKING:
    from attnconf.judging.mistakes.mistake import Apply
    from attnconf.judging.mistakes.scene import Scene
    from attnconf.oracle.problem import Problem


def _window(change: int | None) -> Apply:
    def apply(scene: Scene) -> Problem | Answer | None:
        window = scene.problem.window_left
        if window < 0:
            return None
        if change is None:
            return replace(scene.problem, window_left=-1, window_right=-1)
        return _of_no_key(scene.problem) if window + change < 0 else replace(scene.problem, window_left=window + change)

    return apply


def _of_no_key(problem: Problem) -> Problem | Answer:
    """Let a window of one key become one of none: what is left to a row is the rest of its span, behind itself."""
    if problem.tree or not problem.causal or not problem.spans:
        return replace(problem, k=problem.k[:0], v=problem.v[:0])
    parts = []
    for row, position in enumerate(problem.positions.tolist()):
        goes_on = any(begin <= position < end - 1 for begin, end in problem.spans)
        own = problem.of_rows([row], problem.q[row : row + 1], problem.positions[row : row + 1] + goes_on)
        parts.append(attend(own if goes_on else replace(own, k=own.k[:0], v=own.v[:0])))
    return Answer(torch.cat([part.out for part in parts]), torch.cat([part.lse for part in parts]))


def _window_of_chunk(scene: Scene) -> Problem | None:
    """Count the window from the row's index among the new tokens, which ignores the prefix."""
    window, prefix = scene.problem.window_left, scene.spec.prefix_len
    if window < 0 or not prefix or scene.spec.new_tokens - 1 <= window:
        return None
    return replace(scene.problem, window_left=window + prefix)


def _window_of_another(scene: Scene) -> Problem | None:
    windows = [layer.window_left for layer in scene.case.layers if layer.window_left >= 0]
    if scene.problem.window_left >= 0 or not windows or scene.spec.kv_len <= min(windows) + 1:
        return None
    return unless_alike(scene.problem, replace(scene.problem, window_left=min(windows)))


def _from_row_zero(scene: Scene) -> Problem | None:
    prefix = scene.spec.prefix_len
    if not prefix:
        return None
    wrong = replace(scene.problem, positions=scene.problem.positions - prefix, tree=())
    return wrong if scene.problem.causal else unless_alike(scene.problem, wrong)


def _without_prefix(scene: Scene) -> Problem | None:
    prefix = scene.spec.prefix_len
    seen = scene.first_seen < prefix  # a window of one key holds no cached token, nor does a chunk that begins here
    return _after(scene.problem, prefix) if seen else None


def _without_oldest(scene: Scene) -> Problem | None:
    problem = scene.problem
    bounded = problem.window_left >= 0 or problem.chunk_size is not None
    if problem.k.shape[0] < 2 or bounded:  # noqa: PLR2004 - one key must be left
        return None
    return _after(problem, 1)


def _as_first(scene: Scene) -> Problem | None:
    """Take the number of query tokens of a verify step's first request for that of each."""
    first = next(one.new_tokens for one in scene.case.requests if one.new_tokens)
    more = scene.spec.new_tokens - first
    if scene.case.mode != "verify" or not more or scene.spec.tree:
        return None
    return unless_alike(scene.problem, replace(scene.problem, positions=scene.problem.positions + more))


def _as_of_the_longest(scene: Scene) -> Problem | None:
    """See as far ahead as the batch's longest request has more query tokens: rows are numbered from its first one."""
    more = max(request.new_tokens for request in scene.case.requests) - scene.spec.new_tokens
    if not more or scene.spec.tree:
        return None
    return unless_alike(scene.problem, replace(scene.problem, ahead=more))


def _after(problem: Problem, first: int) -> Problem:
    """Return ``problem`` without its keys before ``first``."""
    return replace(problem, k=problem.k[first:], v=problem.v[first:], start=problem.start + first)


def _causal_off(scene: Scene) -> Problem | None:
    return unless_alike(scene.problem, replace(scene.problem, causal=False))


def _moved_end(step: int) -> Apply:
    """Let each row see keys up to its position plus ``step``; the old end of its window does not move."""

    def apply(scene: Scene) -> Problem | None:
        problem = scene.problem
        none_left = step < 0 and (problem.window_left == 0 or problem.chunk_size == 1)
        if problem.positions.numel() < 2 or none_left or problem.tree:  # noqa: PLR2004 - see below
            return None  # with one row, other mistakes are the same: the newest key, or a slot behind the end
        return unless_alike(problem, replace(problem, ahead=step))

    return apply


def _without_newest(scene: Scene) -> Problem | None:
    problem = scene.problem
    return replace(problem, k=problem.k[:-1], v=problem.v[:-1]) if problem.k.shape[0] > 1 else None


def _to_whole_pages(scene: Scene) -> Problem | None:
    """Drop the tokens of the last page that is not full."""
    count = scene.spec.kv_len // scene.layout.page_size * scene.layout.page_size
    return _up_to(scene.problem, count)


def _without_last_page(scene: Scene) -> Problem | None:
    """Drop a full last page, whose length was computed as kv_len % page_size."""
    size = scene.layout.page_size
    return _up_to(scene.problem, scene.spec.kv_len - size) if scene.spec.kv_len % size == 0 else None


def _up_to(problem: Problem, count: int) -> Problem | None:
    if not 0 < count < problem.k.shape[0]:
        return None
    return replace(problem, k=problem.k[:count], v=problem.v[:count])


def _last_page_full(scene: Scene) -> Problem | None:
    return _longer(scene, -(-scene.spec.kv_len // scene.layout.page_size) * scene.layout.page_size)


def _page_of_tail(scene: Scene) -> Problem | None:
    if len(scene.row_of_table()) <= len(scene.pages):
        return None
    return _longer(scene, (len(scene.pages) + 1) * scene.layout.page_size)


def _longest(scene: Scene) -> Problem | None:
    return _longer(scene, max(request.kv_len for request in scene.case.requests))


def _longer(scene: Scene, length: int) -> Problem | None:
    """Read the request as ``length`` keys: slots behind its end are read, and its rows move to the new end."""
    kv_len, size = scene.spec.kv_len, scene.layout.page_size
    if not 0 < kv_len < length:
        return None
    pages = scene.row_of_table()[: -(-length // size)]
    slots = torch.arange(kv_len, min(length, len(pages) * size))
    k, v = scene.keys_at(pages, slots, tail=min(-kv_len % size, len(slots)))
    problem = scene.problem
    return replace(
        problem,
        k=_joined(problem.k, k),
        v=_joined(problem.v, v),
        positions=problem.positions + len(slots),
        tree_start=problem.tree_start + len(slots),
    )


def _joined(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return stored numbers behind each other: as integers, since not every device joins those of 8 bits."""
    return torch.cat([bits(one), bits(other)]).view(one.dtype)


SIGHT = (
    Mistake("window off", "window", Clause.WINDOW, "the window is ignored", _window(None)),
    Mistake(
        "window one more",
        "window",
        Clause.WINDOW,
        "one key too many at the old end: window_left taken as W",
        _window(1),
    ),
    Mistake(
        "window one less",
        "window",
        Clause.WINDOW,
        "the oldest key of the window is lost: window_left keys, not window_left + 1",
        _window(-1),
    ),
    Mistake(
        "window of the chunk",
        "window",
        Clause.WINDOW,
        "the window is counted from a row's index among the new tokens, not from its position",
        _window_of_chunk,
        claimed=False,
    ),
    Mistake(
        "window everywhere",
        "window",
        Clause.WINDOW,
        "a full layer is given the window of a sliding one",
        _window_of_another,
        claimed=False,
    ),
    Mistake("causal off", "causal", Clause.CAUSAL, "later keys are seen", _causal_off),
    Mistake("causal strict", "causal", Clause.CAUSAL, "the newest key of the request is lost", _without_newest),
    Mistake(
        "one key ahead",
        "causal",
        Clause.CAUSAL,
        "one key too many at the new end: each row sees the next one",
        _moved_end(1),
    ),
    Mistake("own key lost", "causal", Clause.CAUSAL, "no row sees the key at its own position", _moved_end(-1)),
    Mistake(
        "top-left",
        "prefix",
        Clause.CAUSAL,
        "positions count from the first new token, not from the prefix",
        _from_row_zero,
    ),
    Mistake("prefix lost", "prefix", Clause.CAUSAL, "only the new tokens are read, and no cached one", _without_prefix),
    Mistake(
        "drafts of the first",
        "ragged",
        Clause.CAUSAL,
        "each request of a verify step is taken to bring as many query tokens as the first one",
        _as_first,
    ),
    Mistake(
        "rows of the longest",
        "ragged",
        Clause.CAUSAL,
        "rows are numbered by the longest request of the batch, so a shorter one's see later keys",
        _as_of_the_longest,
        claimed=False,
    ),
    Mistake("oldest key lost", "kv_len", Clause.CAUSAL, "the oldest key of the request is lost", _without_oldest),
    Mistake(
        "last page lost",
        "kv_len",
        Clause.CAUSAL,
        "the tokens of a last page that is not full are lost",
        _to_whole_pages,
    ),
    Mistake(
        "full page lost",
        "kv_len",
        Clause.PAGING,
        "a full last page is taken for an empty one: its length as kv_len % page_size",
        _without_last_page,
    ),
    Mistake(
        "last page full",
        "page_tail",
        Clause.DEAD_SLOTS,
        "a last page is read to its end, past the last token",
        _last_page_full,
    ),
    Mistake(
        "table tail read", "table_tail", Clause.PAGING, "a page is read behind the request's last one", _page_of_tail
    ),
    Mistake(
        "longest for all",
        "host_hints",
        Clause.PAGING,
        "the length of the longest request is taken for that of each",
        _longest,
    ),
)
