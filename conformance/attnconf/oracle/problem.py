"""What the oracle is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from attnconf.oracle.packed import scaled, width_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One request on one layer: ``q`` [m, num_qo_heads, D], ``k`` [n, num_kv_heads, D] and ``v``, on one device.

    ``v`` is [n, num_kv_heads, Dv]: values may be narrower or wider than keys. All have any floating-point dtype, or
    ``k`` and ``v`` are rows of NVFP4, uint8 (``packed.py``): their numbers are exact, and count ``q_scale``,
    ``k_scale`` and ``v_scale`` times, those of KV head h also ``k_scales[h]`` and ``v_scales[h]`` times where there are
    such. The answer is asked for in units of
    ``out_scale``: what is stored is the answer / out_scale. ``positions`` [m] int64 are the absolute positions of the
    query rows, ``kv_head_of`` [num_qo_heads] int64 the KV head that each query head reads, both on the CPU; ``sinks``
    [num_qo_heads] has any floating-point dtype. Keys stand at positions ``start`` to ``start`` + n - 1. The rows
    within one of the ``spans`` [begin, end) see all of its keys at and behind their own position, whatever their
    window. With a ``chunk_size`` a row sees no key before its own chunk of so many positions. Where ``causal`` is
    false, each row sees all later keys, too, or as many as ``window_right``, and spans say nothing. Beside these,
    ``ahead`` lets each row see so many later keys, which is a mistake.

    With a ``tree`` the keys from position ``tree_start`` on are draft tokens, and ``tree`` has the parent of each, -1
    for the keys before them. Row i is token ``tokens[i]`` and sees all keys before, and of the drafts itself, its
    parent, the parent's parent and so on. Draft tokens stand as far behind ``tree_start`` as they have parents, which
    is what windows and chunks count.
    """

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    positions: torch.Tensor
    kv_head_of: torch.Tensor
    window_left: int
    sm_scale: float
    soft_cap: float | None = None
    sinks: torch.Tensor | None = None
    causal: bool = True
    window_right: int = -1
    ahead: int = 0
    spans: tuple[tuple[int, int], ...] = ()
    chunk_size: int | None = None
    start: int = 0
    tree: tuple[int, ...] = ()
    tree_start: int = 0
    tokens: tuple[int, ...] = ()
    k_scale: float = 1.0
    v_scale: float = 1.0
    k_scales: tuple[float, ...] = ()
    v_scales: tuple[float, ...] = ()
    q_scale: float = 1.0
    out_scale: float = 1.0

    def sight(self, position: int, row: int) -> tuple[int, int]:
        """Return the first and the last key, as indices of ``k``, that ``row`` at ``position`` sees.

        They may lie outside of ``k``; where the first is behind the last, the row sees none. Of a tree's row, the keys
        between that it does not see are those ``between``.
        """
        if self.tree and self.causal:
            seen = self._drafts(row)
            first = self._oldest(position)
            first = first if first < self.tree_start else min(seen, default=self.tree_start + len(self.tree))
            return first - self.start, max([self.tree_start - 1, *seen]) - self.start
        first = self._oldest(position)
        if not self.causal:
            newest = self.start + self.k.shape[0] - 1
            last = newest if self.window_right < 0 else min(newest, position + self.window_right)
            return first - self.start, last - self.start
        last = position + self.ahead
        for begin, end in self.spans:
            if begin <= position < end:
                last = max(last, end - 1)
        return first - self.start, last - self.start

    def between(self, row: int) -> list[int]:
        """Return the keys, as indices of ``k``, between the first and the last draft that a tree's row does not see."""
        if not self.tree or not self.causal:
            return []
        seen = self._drafts(row)
        return [key - self.start for key in range(self.tree_start, max(seen, default=0)) if key not in seen]

    def _oldest(self, position: int) -> int:
        """Return the oldest position that the window and the chunk of the row at ``position`` allow."""
        first = position - self.window_left if self.window_left >= 0 else 0
        if self.chunk_size is not None:
            first = max(first, position // self.chunk_size * self.chunk_size)
        return first

    def _drafts(self, row: int) -> list[int]:
        """Return where the draft keys lie that a tree's row sees: those of its branch that are not too old."""
        chain, token = [self.tokens[row]], self.tokens[row]
        while self.tree[token] >= 0:
            token = self.tree[token]
            chain.append(token)
        depth = {token: len(chain) - 1 - index for index, token in enumerate(chain)}
        oldest = self._oldest(int(self.positions[row]))
        return [self.tree_start + token for token in chain if self.tree_start + depth[token] >= oldest]

    def of_rows(self, rows: Sequence[int], q: torch.Tensor, positions: torch.Tensor) -> Problem:
        """Return the question of some ``rows``, with their queries ``q`` [rows, num_qo_heads, D] and ``positions``."""
        tokens = tuple(self.tokens[row] for row in rows) if self.tree else ()
        return replace(self, q=q, positions=positions, tokens=tokens)

    @property
    def score_scale(self) -> float:
        """The factor of a product of stored numbers in a score, but for the scale of the key's head."""
        return self.sm_scale * (self.q_scale * self.k_scale)

    @property
    def value_scale(self) -> float:
        """The factor of a stored value in the answer, but for the scale of its head."""
        return self.v_scale / self.out_scale

    @property
    def part_scale(self) -> float:
        """How many times a stored value counts in the answer, at least once and at most."""
        return max([1.0, *(self.value_scale * scale for scale in self.v_scales or (1.0,))])

    @property
    def value_dim(self) -> int:
        """The numbers of a value."""
        return width_of(self.v)

    @property
    def values(self) -> torch.Tensor:
        """The values in float64, as they count in the answer."""
        return scaled(scaled(self.v, self.v_scales or 1.0), self.value_scale)


@dataclass(frozen=True)
class Answer:
    """``out`` [m, num_qo_heads, Dv] and ``lse`` [m, num_qo_heads] (natural logarithm), float64."""

    out: torch.Tensor
    lse: torch.Tensor
