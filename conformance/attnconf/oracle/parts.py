"""Parts: problems cut so that their pieces fit into blocks, and pieces over the same keys together.

A piece is a run of query rows of one problem. Pieces over the same keys, which differ in what their rows see and count,
make a part: its keys are needed once. Parts of like shape make a block (``blocks.py``).
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate, chain
from typing import TYPE_CHECKING, NamedTuple

from attnconf.oracle.limits import MOST_KEYS, MOST_SCORES, SMALL
from attnconf.oracle.packed import width_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch

    from attnconf.oracle.problem import Problem

_ROWS = 512
"""Rows of a piece of a long problem: fewer see fewer keys in vain, more are multiplied faster."""

_LIKE = 2
"""Parts whose numbers of keys or rows differ by no more than this factor are stacked; small ones always."""


class Piece(NamedTuple):
    """So many ``rows`` of a ``problem`` from ``row`` on, at ``positions``. They can see its keys [``first``, ``last``).

    ``out_row`` is the place of the first row among those of all problems.
    """

    problem: Problem
    row: int
    rows: int
    positions: list[int]
    first: int
    last: int
    out_row: int


class Part(NamedTuple):
    """Pieces over the same keys, for some of their KV ``heads`` and the query heads that read them, ``readers``.

    Consecutive query heads share a KV head, and both are slices, or, where the map is another one, ``heads`` are KV
    heads that as many query heads read each, and ``readers`` those of the first one, then of the next. ``rows`` are
    those of all pieces, and some of them can see so many ``keys`` from ``first`` on.
    """

    pieces: tuple[Piece, ...]
    heads: slice | tuple[int, ...]
    readers: slice | tuple[int, ...]
    rows: int
    first: int
    keys: int

    @property
    def kv_heads(self) -> int:
        """How many KV heads."""
        return self.heads.stop - self.heads.start if isinstance(self.heads, slice) else len(self.heads)


def parts_of(problems: Sequence[Problem]) -> Iterator[list[Part]]:
    """Yield the parts of one block after the other; every query row and head of ``problems`` is in one of them."""
    alike: dict[tuple[object, ...], list[Part]] = {}
    starts = accumulate((one.q.shape[0] for one in problems), initial=0)
    over_keys: dict[tuple[tuple[object, ...], tuple[object, ...]], list[Piece]] = {}
    for problem, start in zip(problems, starts, strict=False):
        kind = _kind(problem)
        for piece in _pieces(problem, start):
            over_keys.setdefault((_keys(piece), kind), []).append(piece)
    for (_, kind), pieces in over_keys.items():
        for part in _parts(pieces):
            alike.setdefault((*kind, str(part.heads), str(part.readers)), []).append(part)
    for parts in alike.values():
        yield from _groups(parts)


def _kind(problem: Problem) -> tuple[object, ...]:
    """Return what the problems of a block have in common."""
    mapping = None if _is_grouped(problem) else _sources(problem.kv_head_of)
    return (
        problem.q.shape[1:],
        problem.k.shape[1:],
        problem.v.shape[2],
        mapping,
        problem.k.dtype,
        problem.v.dtype,
        bool(problem.k_scales),
        problem.soft_cap is None,
        problem.sinks is None,
    )


def _widest(problem: Problem) -> int:
    """Return the numbers of a key or of a value, whichever has more."""
    return max(width_of(problem.k), problem.value_dim)


def _keys(piece: Piece) -> tuple[object, ...]:
    """Return what the pieces of a part have in common beside their kind; a piece of many rows is one by itself."""
    one = piece.problem
    alone = piece.out_row if piece.rows > _ROWS // 8 else -1
    same_bytes = (one.k.data_ptr(), one.v.data_ptr(), one.k_scales, one.v_scales)
    return (*same_bytes, one.k.shape[0], alone)


def _is_grouped(problem: Problem) -> bool:
    """Return whether consecutive query heads share each KV head: then its keys and values are needed once for them."""
    return _maps_in_groups(problem.kv_head_of, problem.q.shape[1], problem.k.shape[1])


@lru_cache(maxsize=256)
def _maps_in_groups(kv_head_of: torch.Tensor, heads: int, kv_heads: int) -> bool:
    return heads % kv_heads == 0 and _sources(kv_head_of) == tuple(head // (heads // kv_heads) for head in range(heads))


@lru_cache(maxsize=256)
def _sources(kv_head_of: torch.Tensor) -> tuple[int, ...]:
    """Return the KV head of each query head. Problems share the tensor, so it is read once."""
    return tuple(kv_head_of.tolist())


def _group(problem: Problem) -> tuple[int, int]:
    """Return how many KV heads are read, and by how many query heads each at most."""
    heads, kv_heads = problem.q.shape[1], problem.k.shape[1]
    if _is_grouped(problem):
        return kv_heads, heads // kv_heads
    return max(len(heads) for heads, _ in _readers(problem)), max(len(own[0]) for _, own in _readers(problem))


def _readers(problem: Problem) -> list[tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]]:
    """Return the KV heads that as many query heads read each, with these heads of each, for each such number."""
    return _by_readers(_sources(problem.kv_head_of))


@lru_cache(maxsize=256)
def _by_readers(sources: tuple[int, ...]) -> list[tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]]:
    readers: dict[int, list[int]] = {}
    for head, source in enumerate(sources):
        readers.setdefault(source, []).append(head)
    alike: dict[int, list[int]] = {}
    for source in sorted(readers):
        alike.setdefault(len(readers[source]), []).append(source)
    return [(tuple(heads), tuple(tuple(readers[head]) for head in heads)) for heads in alike.values()]


def _pieces(problem: Problem, start: int) -> Iterator[Piece]:
    """Cut ``problem`` by rows, so that the scores of one KV head fit into a block."""
    rows = problem.q.shape[0]
    if rows == 0:
        return
    _, group = _group(problem)
    positions: list[int] = problem.positions.tolist()
    step = min(rows, _ROWS)
    while step > 1 and group * step * _most_keys(problem, positions[:step]) > MOST_SCORES[problem.q.device.type]:
        step = -(-step // 2)
    for row in range(0, rows, step):
        mine = positions[row : row + step]
        yield Piece(problem, row, len(mine), mine, *_seen(problem, mine, row), start + row)


def _most_keys(problem: Problem, positions: list[int]) -> int:
    """Return an upper limit of the keys that as many rows as there are ``positions`` see."""
    count = problem.k.shape[0]
    reach = problem.window_left if problem.chunk_size is None else problem.chunk_size - 1
    if reach < 0 or not problem.causal:
        return count
    more = max([0, problem.ahead, len(problem.tree), *(end - begin for begin, end in problem.spans)])
    spread = max(positions) - min(positions) + more
    return min(count, reach + spread + 1)


def _seen(problem: Problem, positions: list[int], first: int) -> tuple[int, int]:
    """Return the range [first, last) of keys that some rows from ``first`` on can see; all others only cost time."""
    count = problem.k.shape[0]
    ends = [problem.sight(position, row) for row, position in enumerate(positions, first)]
    last = max(0, min(count, max(end for _, end in ends) + 1))
    return min(max(0, min(begin for begin, _ in ends)), last), last


def _parts(pieces: list[Piece]) -> Iterator[Part]:
    """Join pieces over the same keys, and cut them by KV heads, so that a part fits into a block."""
    problem = pieces[0].problem
    kv_heads, group = _group(problem)
    kind, dim = problem.q.device.type, _widest(problem)

    def per_head(some: list[Piece]) -> int:
        rows, _, keys = _extent(some)
        keys = max(1, keys)
        return min(MOST_SCORES[kind] // (group * rows * keys), MOST_KEYS[kind] // (keys * dim))

    joined: list[Piece] = []
    is_grouped = _is_grouped(problem)
    for piece in [*pieces, None]:
        if piece is not None and (not joined or per_head([*joined, piece]) >= kv_heads):
            joined.append(piece)
            continue
        at_once = min(kv_heads, max(1, per_head(joined)))
        if is_grouped:
            for head in range(0, kv_heads, at_once):
                stop = min(kv_heads, head + at_once)
                yield _part(joined, slice(head, stop), slice(head * group, stop * group))
        else:
            for heads, readers in _readers(problem):
                for first in range(0, len(heads), at_once):
                    own = readers[first : first + at_once]
                    yield _part(joined, heads[first : first + at_once], tuple(chain.from_iterable(own)))
        joined = [] if piece is None else [piece]


def _part(pieces: list[Piece], heads: slice | tuple[int, ...], readers: slice | tuple[int, ...]) -> Part:
    return Part(tuple(pieces), heads, readers, *_extent(pieces))


def _extent(pieces: list[Piece]) -> tuple[int, int, int]:
    """Return the rows of ``pieces``, the first key that some of them can see, and how many keys from there on."""
    if len(pieces) == 1:  # as in most batches
        (one,) = pieces
        return one.rows, one.first, max(0, one.last - one.first)
    first, last = min(piece.first for piece in pieces), max(piece.last for piece in pieces)
    return sum(piece.rows for piece in pieces), first, max(0, last - first)


def _groups(parts: list[Part]) -> Iterator[list[Part]]:
    """Split parts of one kind into blocks: similar lengths together, as many as the limits allow."""
    problem, heads = parts[0].pieces[0].problem, parts[0].kv_heads
    kind, dim, (_, group) = problem.q.device.type, _widest(problem), _group(problem)
    sizes = sorted(((part.keys, part.rows, index) for index, part in enumerate(parts)), reverse=True)
    block: list[Part] = []
    rows = longest = 0
    for keys, own_rows, index in sizes:
        most, longest = max(rows, own_rows), longest or keys
        count = (len(block) + 1) * heads * longest
        fits = count * group * most <= MOST_SCORES[kind] and count * dim <= MOST_KEYS[kind]
        small = heads * longest * max(dim, group * most) <= SMALL[kind]
        like = longest <= _LIKE * keys and most <= _LIKE * min(own_rows, rows or own_rows)
        if block and not (fits and (small or like)):
            yield block
            block, most, longest = [], own_rows, keys
        block.append(parts[index])
        rows = most
    yield block
