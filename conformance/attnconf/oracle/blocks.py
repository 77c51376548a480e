"""Blocks: parts of like shape, stacked, so that many problems are answered at once within bounded memory.

Shorter parts have rows and keys behind them that nothing sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from attnconf.oracle.packed import is_packed, numbers, scaled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from attnconf.oracle.parts import Part
    from attnconf.oracle.problem import Problem


_FEW_COPIES = 3
"""Tensors up to which each is copied into a block by itself; more are gathered, which reads their numbers twice."""


@dataclass(frozen=True)
class Block:
    """Stacked parts: ``q`` [parts, query heads, queries, D], ``k`` and ``v`` [parts, KV heads, keys, D or Dv], float64.

    Scales are not applied, but for those of KV heads. Each KV head serves query heads / KV heads consecutive ones.
    ``query_of`` [parts, rows] int64 is the query of each row, None where each row has its own: rows of several
    pieces may ask the same one. ``visible`` is [parts, 1, rows, keys]. ``score_scale``, ``soft_cap``,
    ``value_scale`` and ``part_scale`` are numbers, or [parts, 1, rows, 1] where they differ; ``sinks`` is [parts,
    query heads, rows], or None.
    """

    parts: tuple[Part, ...]
    query_heads: slice | tuple[int, ...]
    q: torch.Tensor
    query_of: torch.Tensor | None
    k: torch.Tensor
    v: torch.Tensor
    visible: torch.Tensor
    score_scale: torch.Tensor | float
    soft_cap: torch.Tensor | float | None
    value_scale: torch.Tensor | float
    part_scale: torch.Tensor | float
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
        plain = isinstance(self.value_scale, float) and self.value_scale == 1.0
        return found if plain else found * self.value_scale

    def put(self, target: torch.Tensor, found: torch.Tensor) -> None:
        """Write ``found`` [parts, query heads, rows, ...] to its rows of ``target`` [rows of all problems, heads, ...].

        What belongs to no row of a problem is dropped.
        """
        parts, heads, rows = found.shape[:3]
        by_row = found.transpose(1, 2).reshape(parts * rows, heads, *found.shape[3:])
        if self._kept is not None:
            by_row = by_row.index_select(0, self._kept)
        places, heads_of = self._places, self.query_heads
        if isinstance(heads_of, slice):
            if isinstance(places, slice):
                target[places, heads_of].copy_(by_row)
            else:
                target[:, heads_of].index_copy_(0, places, by_row)
        else:
            target[places if isinstance(places, slice) else places[:, None], _sent(heads_of, by_row.device)] = by_row

    @cached_property
    def _kept(self) -> torch.Tensor | None:
        """Those of the rows of all parts, one behind the other, that belong to a problem; None for all of them."""
        rows = self.visible.shape[2]
        kept = [rows * index + row for index, part in enumerate(self.parts) for row in range(part.rows)]
        return None if len(kept) == rows * len(self.parts) else _sent(kept, self.visible.device)

    @cached_property
    def _places(self) -> slice | torch.Tensor:
        """The places of these rows among those of all problems: a slice where they follow each other."""
        places = [range(piece.out_row, piece.out_row + piece.rows) for part in self.parts for piece in part.pieces]
        if all(one.stop == other.start for one, other in pairwise(places)):
            return slice(places[0].start, places[-1].stop)
        return _sent([row for place in places for row in place], self.visible.device)


def stacked(parts: list[Part]) -> Block:
    """Return parts that agree in heads and kind as one block."""
    parts = sorted(parts, key=lambda part: part.pieces[0].out_row)
    problem, own, heads = parts[0].pieces[0].problem, parts[0].readers, parts[0].heads
    rows, keys = max(part.rows for part in parts), max(part.keys for part in parts)
    over = [(part.pieces[0].problem, slice(part.first, part.first + part.keys)) for part in parts]
    queries, query_of = _queries(parts, rows, own)
    return Block(
        parts=tuple(parts),
        query_heads=own,
        q=queries,
        query_of=query_of,
        k=_stack([_of_heads(one.k[seen, _index(heads)], one.k_scales, heads) for one, seen in over], keys),
        v=_stack([_of_heads(one.v[seen, _index(heads)], one.v_scales, heads) for one, seen in over], keys),
        visible=_visible(parts, rows, keys),
        score_scale=_numbers(parts, rows, lambda one: one.score_scale),
        soft_cap=None if problem.soft_cap is None else _numbers(parts, rows, lambda one: one.soft_cap or 0.0),
        value_scale=_numbers(parts, rows, lambda one: one.value_scale),
        part_scale=_numbers(parts, rows, lambda one: one.part_scale),
        sinks=None if problem.sinks is None else _sinks(parts, rows, own),
    )


def _of_heads(stored: torch.Tensor, scales: tuple[float, ...], heads: slice | tuple[int, ...]) -> torch.Tensor:
    """Return stored numbers [keys, heads, width] of some ``heads`` by the ``scales`` of all, or as they are."""
    if not scales:
        return stored
    return scaled(stored, scales[heads] if isinstance(heads, slice) else tuple(scales[head] for head in heads))


def _queries(parts: list[Part], rows: int, own: slice | tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the stacked queries of parts, each once in its part, and the query of each row."""
    found_in, asked = [], []
    for part in parts:
        starts: dict[tuple[int, int, int], int] = {}
        found: list[torch.Tensor] = []
        query_of: list[int] = []
        for piece in part.pieces:
            key = (piece.problem.q.data_ptr(), piece.row, piece.rows)
            if key not in starts:
                starts[key] = sum(one.shape[0] for one in found)
                found.append(piece.problem.q[piece.row : piece.row + piece.rows, _index(own)])
            query_of += range(starts[key], starts[key] + piece.rows)
        found_in.append(found[0] if len(found) == 1 else torch.cat(found))
        asked.append([*query_of, *[0] * (rows - len(query_of))])
    if all(found.shape[0] == part.rows for found, part in zip(found_in, parts, strict=True)):
        return _stack(found_in, rows), None
    return _stack(found_in, max(found.shape[0] for found in found_in)), _sent(asked, found_in[0].device)


def _stack(tensors: list[torch.Tensor], length: int) -> torch.Tensor:
    """Return tensors [at most length, heads, D] as one [tensors, heads, length, D] in float64, zeros behind them."""
    first = tensors[0]
    together = _strided(tensors)
    if together is not None:
        return numbers(together).transpose(1, 2)
    if len(tensors) > _FEW_COPIES:
        return _joined(tensors, length).transpose(1, 2)
    make = torch.zeros if any(tensor.shape[0] < length for tensor in tensors) else torch.empty
    dtype = first.dtype if is_packed(first) else torch.float64  # a row of zero bytes is one of zeros
    stacked = make((len(tensors), length, *first.shape[1:]), dtype=dtype, device=first.device)
    for index, tensor in enumerate(tensors):
        stacked[index, : tensor.shape[0]].copy_(tensor)
    return numbers(stacked).transpose(1, 2)


def _joined(tensors: list[torch.Tensor], length: int) -> torch.Tensor:
    """Return the same [tensors, length, heads, D] by one gather, whatever the number of tensors."""
    dtype = tensors[0].dtype
    if dtype.itemsize == 1:  # not every device joins and gathers numbers of 8 bits
        tensors = [tensor.view(torch.uint8) for tensor in tensors]
    together = torch.cat([*tensors, tensors[0].new_zeros((1, *tensors[0].shape[1:]))])
    rows = _rows_behind(tuple(tensor.shape[0] for tensor in tensors), length, together.device)
    return numbers(together[rows].view(dtype))


@lru_cache(maxsize=2)
def _rows_behind(lengths: tuple[int, ...], length: int, device: torch.device) -> torch.Tensor:
    """Return the rows [tensors, length] of tensors that are joined, with the one behind the last one where they end.

    Keys and values are as long, and so are those of the next layer.
    """
    counts, place = torch.tensor(lengths)[:, None], torch.arange(length)
    rows = torch.where(place < counts, counts.cumsum(0) - counts + place, sum(lengths))
    return rows.to(device, non_blocking=True)


def _strided(tensors: list[torch.Tensor]) -> torch.Tensor | None:
    """Return tensors of one shape that follow each other at one distance in memory as a view of it, else None."""
    first = tensors[0]
    if len(tensors) == 1:
        return first[None]
    places = [tensor.storage_offset() for tensor in tensors]
    step = places[1] - places[0]
    regular = step >= 0 and places == [places[0] + step * index for index in range(len(places))]
    base = first.untyped_storage().data_ptr()
    alike = regular and all(
        tensor.shape == first.shape
        and tensor.stride() == first.stride()
        and tensor.dtype == first.dtype
        and tensor.untyped_storage().data_ptr() == base
        for tensor in tensors
    )
    return first.as_strided((len(tensors), *first.shape), (step, *first.stride()), places[0]) if alike else None


def _index(heads: slice | tuple[int, ...]) -> slice | list[int]:
    return heads if isinstance(heads, slice) else list(heads)


def _sent(numbers: Sequence[object], device: torch.device) -> torch.Tensor:
    """Return integers on ``device``, which is not waited for."""
    return torch.tensor(numbers, dtype=torch.int64).to(device, non_blocking=True)


def _visible(parts: list[Part], rows: int, keys: int) -> torch.Tensor:
    """Return which keys of its part each row sees, [parts, 1, rows, keys], on the device of the parts."""
    oldest: list[list[int]] = []
    newest: list[list[int]] = []
    for part in parts:
        begin, end = [], []
        for piece in part.pieces:
            one, last = piece.problem, piece.problem.k.shape[0] - part.first - 1
            seen = [one.sight(position, row) for row, position in enumerate(piece.positions, piece.row)]
            begin += [oldest_seen - part.first for oldest_seen, _ in seen]
            end += [min(newest_seen - part.first, last) for _, newest_seen in seen]
        oldest.append([*begin, *[0] * (rows - len(begin))])
        newest.append([*end, *[-1] * (rows - len(end))])
    first, last_seen = _sent([oldest, newest], parts[0].pieces[0].problem.q.device)
    key = torch.arange(keys, device=first.device)
    return _without_other_branches(parts, torch.logical_and(key >= first[..., None], key <= last_seen[..., None]))[
        :, None
    ]


def _without_other_branches(parts: list[Part], visible: torch.Tensor) -> torch.Tensor:
    """Return ``visible`` [parts, rows, keys] without the drafts of other branches than a row's."""
    hidden = []
    for index, part in enumerate(parts):
        place = 0  # of the piece's first row in the part
        for piece in part.pieces:
            for offset in range(piece.rows) if piece.problem.tree else ():
                keys = (key - part.first for key in piece.problem.between(piece.row + offset))
                hidden += [(index, place + offset, key) for key in keys if 0 <= key < visible.shape[2]]
            place += piece.rows
    if hidden:
        visible[tuple(_sent(hidden, visible.device).T)] = False
    return visible


def _numbers(parts: list[Part], rows: int, read: Callable[[Problem], float]) -> torch.Tensor | float:
    """Return a number of the problems: one where they agree, else one for each row, [parts, 1, rows, 1]."""
    found = {read(piece.problem) for part in parts for piece in part.pieces}
    if len(found) == 1:
        return float(found.pop())
    by_row = [
        _padded((number for piece in part.pieces for number in [read(piece.problem)] * piece.rows), rows)
        for part in parts
    ]
    device = parts[0].pieces[0].problem.q.device
    return torch.tensor(by_row, dtype=torch.float64).to(device, non_blocking=True)[:, None, :, None]


def _padded(numbers: Iterable[float], length: int) -> list[float]:
    found = list(numbers)
    return [*found, *[1.0] * (length - len(found))]


def _sinks(parts: list[Part], rows: int, own: slice | tuple[int, ...]) -> torch.Tensor:
    """Return the sinks of each row, [parts, query heads, rows]; those behind a part are its first row's."""
    found = []
    for part in parts:
        pieces = [(piece.problem.sinks, piece.rows) for piece in part.pieces]
        columns = [sinks[_index(own), None].expand(-1, count) for sinks, count in pieces if sinks is not None]
        found.append(torch.cat([*columns, columns[0][:, :1].expand(-1, rows - part.rows)], dim=1).double())
    return torch.stack(found)
