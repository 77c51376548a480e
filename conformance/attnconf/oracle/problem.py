"""What the oracle is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One request on one layer: ``q`` [m, num_qo_heads, D], ``k`` [n, num_kv_heads, D] and ``v``, on one device.

    ``v`` is [n, num_kv_heads, Dv]: values may be narrower or wider than keys. All have any floating-point dtype: their
    numbers are exact, and count ``q_scale``, ``k_scale`` and ``v_scale`` times. The answer is asked for in units of
    ``out_scale``: what is stored is the answer / out_scale. ``positions`` [m] int64 are the absolute positions of the
    query rows, ``kv_head_of`` [num_qo_heads] int64 the KV head that each query head reads, both on the CPU; ``sinks``
    [num_qo_heads] has any floating-point dtype. Keys stand at positions ``start`` to ``start`` + n - 1. The rows
    within one of the ``spans`` [begin, end) see all of its keys at and behind their own position, whatever their
    window. With a ``chunk_size`` a row sees no key before its own chunk of so many positions. Beside these, ``causal``
    false lets each row see all later keys, and ``ahead`` so many: both are mistakes.
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
    ahead: int = 0
    spans: tuple[tuple[int, int], ...] = ()
    chunk_size: int | None = None
    start: int = 0
    k_scale: float = 1.0
    v_scale: float = 1.0
    q_scale: float = 1.0
    out_scale: float = 1.0

    def sight(self, position: int) -> tuple[int, int]:
        """Return the first and the last key, as indices of ``k``, that the row at ``position`` sees.

        They may lie outside of ``k``; where the first is behind the last, the row sees none.
        """
        first = position - self.window_left if self.window_left >= 0 else 0
        if self.chunk_size is not None:
            first = max(first, position // self.chunk_size * self.chunk_size)
        last = position + self.ahead if self.causal else self.start + self.k.shape[0] - 1
        for begin, end in self.spans:
            if begin <= position < end:
                last = max(last, end - 1)
        return first - self.start, last - self.start

    def of_rows(self, rows: torch.Tensor, q: torch.Tensor) -> Problem:
        """Return the question of some ``rows`` [n] int64, whose queries are ``q`` [n, num_qo_heads, D]."""
        return replace(self, q=q, positions=self.positions[rows])

    @property
    def score_scale(self) -> float:
        """The factor of a product of stored numbers in a score."""
        return self.sm_scale * (self.q_scale * self.k_scale)

    @property
    def value_scale(self) -> float:
        """The factor of a stored value in the answer."""
        return self.v_scale / self.out_scale

    @property
    def values(self) -> torch.Tensor:
        """The values in float64, as they count in the answer."""
        return scaled(self.v, self.value_scale)


@dataclass(frozen=True)
class Answer:
    """``out`` [m, num_qo_heads, Dv] and ``lse`` [m, num_qo_heads] (natural logarithm), float64."""

    out: torch.Tensor
    lse: torch.Tensor


def scaled(stored: torch.Tensor, scale: float) -> torch.Tensor:
    """Return ``stored`` in float64, ``scale`` times."""
    return stored.double() if scale == 1.0 else stored.double() * scale
