"""Blocks: problems cut into pieces, and pieces stacked, so that many are answered at once within bounded memory.

A piece is a run of query rows of one problem. Pieces over the same keys, which differ in what their rows see and count,
make a part: its keys are needed once. Parts of like shape make a block. Shorter ones have rows and keys behind them
that nothing sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from attnconf.oracle.problem import Problem

MOST_SCORES = {"cpu": 2**21, "cuda": 2**24}
"""Scores of a block by the type of its device; on a GPU one temporary of them takes 128 MiB."""

MOST_KEYS = {"cpu": 2**22, "cuda": 2**26}
"""Elements of a block's keys (512 MiB of float64 on a GPU), and of its values. One KV head of one part may exceed it."""

_ROWS = 512
"""Rows of a piece of a long problem: fewer see fewer keys in vain, more are multiplied faster."""

_LIKE = 2
"""Parts whose numbers of keys or rows differ by no more than this factor are stacked; small ones always."""

_SMALL = 2**14
"""Elements of keys and scores up to which a part is stacked with shorter ones: starting an operation costs more."""


@dataclass(frozen=True)
class Piece:
    """Rows [``row``, ``row`` + ``rows``) of a ``problem``, which can see its keys [``first``, ``last``).

    ``out_row`` is the place of the first row among those of all problems.
    """

    problem: Problem
    row: int
    rows: int
    first: int
    last: int
    out_row: int


@dataclass(frozen=True)
class Part:
    """Pieces over the same keys, for the KV heads ``heads`` of them; a head of a mapped problem counts as a KV head."""

    pieces: tuple[Piece, ...]
    heads: range

    @property
    def rows(self) -> int:
        """The rows of all pieces."""
        return sum(piece.rows for piece in self.pieces)

    @property
    def first(self) -> int:
        """The first key that some row can see."""
        return min(piece.first for piece in self.pieces)

    @property
    def last(self) -> int:
        """The end of these keys."""
        return max(piece.last for piece in self.pieces)

    @property
    def keys(self) -> int:
        """How many they are."""
        return max(0, self.last - self.first)


@dataclass(frozen=True)
class Block:
    """Stacked parts. ``q`` [parts, query heads, queries, D], ``k``, ``v`` [parts, KV heads, keys, D], float64, unscaled.

    Each KV head serves query heads / KV heads consecutive ones. ``query_of`` [parts, rows] int64 is the query of each
    row, None where each row has its own: rows of several pieces may ask the same one. ``visible`` is [parts, 1, rows, keys]. ``score_scale``
    (sm_scale x k_scale), ``soft_cap`` and ``v_scale`` are numbers, or [parts, 1, rows, 1] where they differ; ``sinks``
    is [parts, query heads, rows], or None.
    """

    parts: tuple[Part, ...]
    query_heads: slice
    q: torch.Tensor
    query_of: torch.Tensor | None
    k: torch.Tensor
    v: torch.Tensor
    visible: torch.Tensor
    score_scale: torch.Tensor | float
    soft_cap: torch.Tensor | float | None
    v_scale: torch.Tensor | float
    sinks: torch.Tensor | None

    def products(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        """Return the products [parts, query heads, rows, keys] of the rows' ``q`` with the ``k`` that they read."""
        parts, heads, queries, dim = q.shape
        kv_heads, keys = k.shape[1:3]
        found = q.reshape(parts, kv_heads, heads // kv_heads * queries, dim) @ k.transpose(2, 3)
        found = found.view(parts, heads, queries, keys)
        if self.query_of is None:
            return found
        if parts == 1:
            return found[:, :, self.query_of[0]]
        return found.gather(2, self.query_of[:, None, :, None].expand(parts, heads, -1, keys))

    def sums(self, p: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Return the sums [parts, query heads, rows, D] of ``v``, scaled, by the weights ``p`` [..., keys]."""
        parts, heads, rows, keys = p.shape
        kv_heads, dim = v.shape[1], v.shape[3]
        found = (p.reshape(parts, kv_heads, heads // kv_heads * rows, keys) @ v).view(parts, heads, rows, dim)
        return found if isinstance(self.v_scale, float) and self.v_scale == 1.0 else found * self.v_scale

    def put(self, target: torch.Tensor, found: torch.Tensor) -> None:
        """Write ``found`` [parts, query heads, rows, ...] to its rows of ``target`` [rows of all problems, heads, ...].

        What belongs to no row of a problem is dropped.
        """
        parts, heads, rows = found.shape[:3]
        by_row = found.transpose(1, 2).reshape(parts * rows, heads, *found.shape[3:])
        own = target[:, self.query_heads]
        places = [range(piece.out_row, piece.out_row + piece.rows) for part in self.parts for piece in part.pieces]
        if all(part.rows == rows for part in self.parts):
            if all(one.stop == other.start for one, other in zip(places, places[1:], strict=False)):
                own[places[0].start : places[-1].stop].copy_(by_row)
                return
        else:
            kept = [rows * index + row for index, part in enumerate(self.parts) for row in range(part.rows)]
            by_row = by_row.index_select(0, torch.tensor(kept, dtype=torch.int64).to(by_row.device))
        index = torch.tensor([row for place in places for row in place], dtype=torch.int64)
        own.index_copy_(0, index.to(by_row.device), by_row)


def blocks_of(problems: Sequence[Problem]) -> Iterator[Block]:
    """Yield blocks that have every query row and head of ``problems`` exactly once."""
    alike: dict[tuple[object, ...], list[Part]] = {}
    starts = accumulate((one.q.shape[0] for one in problems), initial=0)
    over_keys: dict[tuple[object, ...], list[Piece]] = {}
    for problem, start in zip(problems, starts, strict=False):
        for piece in _pieces(problem, start):
            over_keys.setdefault(_keys_and_kind(piece), []).append(piece)
    for pieces in over_keys.values():
        for part in _parts(pieces):
            alike.setdefault((*_kind(part.pieces[0].problem), part.heads), []).append(part)
    for parts in alike.values():
        yield from (_stacked(group) for group in _groups(parts))


def _kind(problem: Problem) -> tuple[object, ...]:
    """Return what the problems of a block have in common."""
    mapping = None if _is_grouped(problem) else tuple(problem.kv_head_of.tolist())
    return (problem.q.shape[1:], problem.k.shape[1:], mapping, problem.soft_cap is None, problem.sinks is None)


def _keys_and_kind(piece: Piece) -> tuple[object, ...]:
    """Return what the pieces of a part have in common; a piece of many rows is one by itself."""
    one = piece.problem
    alone = piece.out_row if piece.rows > _ROWS // 8 else -1
    return (one.k.data_ptr(), one.v.data_ptr(), one.k.shape[0], alone, *_kind(one))


def _is_grouped(problem: Problem) -> bool:
    """Return whether consecutive query heads share each KV head: then its keys and values are needed once for them."""
    heads, kv_heads = problem.q.shape[1], problem.k.shape[1]
    mapping: list[int] = problem.kv_head_of.tolist()
    return heads % kv_heads == 0 and mapping == [head // (heads // kv_heads) for head in range(heads)]


def _group(problem: Problem) -> tuple[int, int]:
    """Return the KV heads that are read, each by so many query heads: a mapped head has a KV head of its own."""
    heads, kv_heads = problem.q.shape[1], problem.k.shape[1]
    return (kv_heads, heads // kv_heads) if _is_grouped(problem) else (heads, 1)


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
        yield Piece(problem, row, len(mine), *_seen(problem, mine), start + row)


def _most_keys(problem: Problem, positions: list[int]) -> int:
    """Return an upper limit of the keys that as many rows as there are ``positions`` see."""
    count = problem.k.shape[0]
    if problem.window_left < 0 or not problem.causal:
        return count
    return min(count, problem.window_left + max(positions) - min(positions) + 1)


def _seen(problem: Problem, positions: list[int]) -> tuple[int, int]:
    """Return the range [first, last) of keys that some of these rows can see; all others only cost time."""
    count = problem.k.shape[0]
    first = max(0, min(positions) - problem.window_left) if problem.window_left >= 0 else 0
    last = max(0, min(count, max(positions) + 1) if problem.causal else count)
    return min(first, last), last


def _parts(pieces: list[Piece]) -> Iterator[Part]:
    """Join pieces over the same keys, and cut them by KV heads, so that a part fits into a block."""
    problem = pieces[0].problem
    kv_heads, group = _group(problem)
    kind, dim = problem.q.device.type, problem.q.shape[2]

    def per_head(some: list[Piece]) -> int:
        keys = max(1, max(piece.last for piece in some) - min(piece.first for piece in some))
        scores = MOST_SCORES[kind] // (group * sum(piece.rows for piece in some) * keys)
        return min(scores, MOST_KEYS[kind] // (keys * dim))

    joined: list[Piece] = []
    for piece in [*pieces, None]:
        if piece is not None and (not joined or per_head([*joined, piece]) >= kv_heads):
            joined.append(piece)
            continue
        at_once = min(kv_heads, max(1, per_head(joined)))
        for head in range(0, kv_heads, at_once):
            yield Part(tuple(joined), range(head, min(kv_heads, head + at_once)))
        joined = [] if piece is None else [piece]


def _groups(parts: list[Part]) -> Iterator[list[Part]]:
    """Split parts of one kind into blocks: similar lengths together, as many as the limits allow."""
    problem, heads = parts[0].pieces[0].problem, len(parts[0].heads)
    kind, dim, (_, group) = problem.q.device.type, problem.q.shape[2], _group(problem)
    sizes = sorted(((part.keys, part.rows, index) for index, part in enumerate(parts)), reverse=True)
    block: list[Part] = []
    rows = longest = 0
    for keys, own_rows, index in sizes:
        most, longest = max(rows, own_rows), longest or keys
        count = (len(block) + 1) * heads * longest
        fits = count * group * most <= MOST_SCORES[kind] and count * dim <= MOST_KEYS[kind]
        small = heads * longest * max(dim, group * most) <= _SMALL
        like = longest <= _LIKE * keys and most <= _LIKE * min(own_rows, rows or own_rows)
        if block and not (fits and (small or like)):
            yield block
            block, most, longest = [], own_rows, keys
        block.append(parts[index])
        rows = most
    yield block


def _stacked(parts: list[Part]) -> Block:
    parts = sorted(parts, key=lambda part: part.pieces[0].out_row)
    problem, kv_heads = parts[0].pieces[0].problem, parts[0].heads
    _, group = _group(problem)
    own = slice(kv_heads.start * group, kv_heads.stop * group)
    if _is_grouped(problem):
        sources: slice | torch.Tensor = slice(kv_heads.start, kv_heads.stop)
    else:
        sources = problem.kv_head_of[own].to(problem.k.device)
    rows, keys = max(part.rows for part in parts), max(part.keys for part in parts)
    over = [(part.pieces[0].problem, slice(part.first, part.first + part.keys)) for part in parts]
    queries, query_of = _queries(parts, rows, own)
    return Block(
        parts=tuple(parts),
        query_heads=own,
        q=queries,
        query_of=query_of,
        k=_stack([_heads(one.k[seen], sources) for one, seen in over], keys),
        v=_stack([_heads(one.v[seen], sources) for one, seen in over], keys),
        visible=_visible(parts, rows, keys),
        score_scale=_numbers(parts, rows, lambda one: one.sm_scale * one.k_scale),
        soft_cap=None if problem.soft_cap is None else _numbers(parts, rows, lambda one: one.soft_cap or 0.0),
        v_scale=_numbers(parts, rows, lambda one: one.v_scale),
        sinks=None if problem.sinks is None else _sinks(parts, rows, own),
    )


def _queries(parts: list[Part], rows: int, own: slice) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the stacked queries of parts, each once in its part, and the query of each row."""
    stacked, asked = [], []
    for part in parts:
        starts: dict[tuple[int, int, int], int] = {}
        found: list[torch.Tensor] = []
        query_of: list[int] = []
        for piece in part.pieces:
            key = (piece.problem.q.data_ptr(), piece.row, piece.rows)
            if key not in starts:
                starts[key] = sum(len(one) for one in found)
                found.append(piece.problem.q[piece.row : piece.row + piece.rows, own])
            query_of += range(starts[key], starts[key] + piece.rows)
        stacked.append(found[0] if len(found) == 1 else torch.cat(found))
        asked.append([*query_of, *[0] * (rows - len(query_of))])
    queries = max(len(one) for one in stacked)
    if queries == rows:
        return _stack(stacked, rows), None
    return _stack(stacked, queries), torch.tensor(asked, dtype=torch.int64).to(stacked[0].device)


def _stack(tensors: list[torch.Tensor], length: int) -> torch.Tensor:
    """Return tensors [at most length, heads, D] as one [tensors, heads, length, D] in float64, zeros behind them."""
    first = tensors[0]
    if len(tensors) == 1:
        return first.double().transpose(0, 1)[None]
    make = torch.zeros if any(tensor.shape[0] < length for tensor in tensors) else torch.empty
    stacked = make((len(tensors), length, *first.shape[1:]), dtype=torch.float64, device=first.device)
    for index, tensor in enumerate(tensors):
        stacked[index, : tensor.shape[0]].copy_(tensor)
    return stacked.transpose(1, 2)


def _heads(stored: torch.Tensor, sources: slice | torch.Tensor) -> torch.Tensor:
    """Return some heads of ``stored`` [n, heads, D]; a list of them indexes numbers of 8 bits as integers."""
    if isinstance(sources, slice) or stored.element_size() > 1:
        return stored[:, sources]
    return stored.view(torch.uint8)[:, sources].view(stored.dtype)


def _visible(parts: list[Part], rows: int, keys: int) -> torch.Tensor:
    """Return which keys of its part each row sees, [parts, 1, rows, keys], on the device of the parts."""
    ends = torch.zeros((2, len(parts), rows), dtype=torch.int64)
    ends[1] = -1
    for index, part in enumerate(parts):
        begin = 0
        for piece in part.pieces:
            one, own = piece.problem, slice(begin, begin + piece.rows)
            positions = one.positions[piece.row : piece.row + piece.rows]
            if one.window_left >= 0:
                ends[0, index, own] = positions - (one.window_left + part.first)
            newest = one.k.shape[0] - part.first - 1
            ends[1, index, own] = (positions - part.first).clamp(max=newest) if one.causal else newest
            begin += piece.rows
    oldest, newest_seen = ends.to(parts[0].pieces[0].problem.q.device)
    key = torch.arange(keys, device=oldest.device)
    return ((key >= oldest[..., None]) & (key <= newest_seen[..., None]))[:, None]


def _numbers(parts: list[Part], rows: int, read: Callable[[Problem], float]) -> torch.Tensor | float:
    """Return a number of the problems: one where they agree, else one for each row, [parts, 1, rows, 1]."""
    found = [[(read(piece.problem), piece.rows) for piece in part.pieces] for part in parts]
    first = found[0][0][0]
    if all(number == first for pieces in found for number, _ in pieces):
        return float(first)
    by_row = [_padded((number for number, count in pieces for _ in range(count)), rows) for pieces in found]
    device = parts[0].pieces[0].problem.q.device
    return torch.tensor(by_row, dtype=torch.float64).to(device)[:, None, :, None]


def _padded(numbers: Iterable[float], length: int) -> list[float]:
    found = list(numbers)
    return [*found, *[1.0] * (length - len(found))]


def _sinks(parts: list[Part], rows: int, own: slice) -> torch.Tensor:
    """Return the sinks of each row, [parts, query heads, rows]; those behind a part are its first row's."""
    found = []
    for part in parts:
        pieces = [(piece.problem.sinks, piece.rows) for piece in part.pieces]
        columns = [sinks[own, None].expand(-1, count) for sinks, count in pieces if sinks is not None]
        found.append(torch.cat([*columns, columns[0][:, :1].expand(-1, rows - part.rows)], dim=1).double())
    return torch.stack(found)
