"""Cell: one test of a peer with its parameters picked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from attnconf.cases.case import Layer

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from attnconf.cases.case import KVLayout, Mode, Storage
    from attnconf.cases.dtypes import KVDtype, QDtype

    Draw = Callable[[random.Random], "Cell"]

Table = Literal["identity", "shuffled", "shuffled within requests", "with replacement"]
Dead = Literal["noise", "zero", "nan"]
Inputs = Literal["noise", "projected", "coded"]

MOST_REQUESTS = 4
MOST_KV_HEADS = 2
MOST_WORK = 400_000_000
"""Multiplications of q with k in one cell: half a second on one core."""


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How a peer compares: as ``torch.testing.assert_close`` does, unless said otherwise.

    ``forgiven`` is the share of elements that may differ; ``nan_passes`` that NaN counts as equal; ``either`` that an
    element within ``atol`` or within ``rtol`` is right; ``bitwise`` that the output must have the bits of a run over
    contiguous pages; ``lse`` is (atol, rtol) of the log-sum-exp, where the peer looks at it.
    """

    atol: float = 0.0
    rtol: float = 0.0
    forgiven: float = 0.0
    nan_passes: bool = False
    either: bool = False
    bitwise: bool = False
    lse: tuple[float, float] | None = None

    def doubled(self) -> Tolerance:
        """Return twice the tolerance."""
        return replace(self, atol=2 * self.atol, rtol=2 * self.rtol)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One question of a peer to a kernel.

    ``test`` names it. ``requests`` are (cached, new) tokens. ``table`` is the page-table rule, ``dead`` what lies in
    slots that no token owns, ``null_page`` whether page 0 is left to nobody, ``reclaimed`` whether pages behind the
    window point at a page of NaN. ``inputs``: normal noise of ``mean`` and ``spread`` for K, ``spread`` for V;
    projections of noise by random linear layers, compared behind another one; or zero Q and K over coded V. ``amax``
    picks the fp8 scales as the peer's helper does, from the largest element. ``exact_golden`` compares with the answer
    before K and V were quantised.
    """

    test: str
    tolerance: Tolerance
    mode: Mode
    layer: Layer
    requests: tuple[tuple[int, int], ...]
    page_size: int
    kv_layout: KVLayout = "NHD"
    storage: Storage = "apart"
    q_dtype: QDtype = "bfloat16"
    kv_dtype: KVDtype = "bfloat16"
    table: Table = "identity"
    dead: Dead = "noise"
    null_page: bool = False
    reclaimed: bool = False
    pool_pages: int = 0
    shared_pages: int = 0
    inputs: Inputs = "noise"
    mean: float = 0.0
    spread: float = 1.0
    hidden: int = 0
    sinks: Literal["uniform", "steps"] = "uniform"
    amax: Literal["", "apart", "joint"] = ""
    exact_golden: bool = False
    unwritten: float = 0.0
    seed: int = 0

    @property
    def work(self) -> int:
        """Multiplications of all queries with all keys."""
        rows = sum(new * (cached + new) for cached, new in self.requests)
        return rows * self.layer.num_qo_heads * self.layer.head_dim


def layer_of(  # noqa: PLR0913 - what a layer is
    num_qo_heads: int,
    num_kv_heads: int,
    head_dim: int,
    *,
    window: int = -1,
    cap: float | None = None,
    sinks: bool = False,
    sm_scale: float | None = None,
    scales: tuple[float, float] = (1.0, 1.0),
) -> Layer:
    """Return a layer of at most ``MOST_KV_HEADS`` KV heads, with the group size that was asked for."""
    kept = min(num_kv_heads, MOST_KV_HEADS)
    return Layer(
        kind="full" if window < 0 else "sliding",
        window_left=window,
        num_qo_heads=num_qo_heads // num_kv_heads * kept,
        num_kv_heads=kept,
        head_dim=head_dim,
        sm_scale=head_dim**-0.5 if sm_scale is None else sm_scale,
        logits_soft_cap=cap,
        sinks=sinks,
        k_scale=scales[0],
        v_scale=scales[1],
    )


def mode_of(requests: tuple[tuple[int, int], ...]) -> Mode:
    """Return the mode that a batch of (cached, new) tokens is."""
    new = [tokens for _, tokens in requests]
    if set(new) == {1}:
        return "decode"
    return "mixed" if 1 in new else "extend"


def cut(requests: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return at most ``MOST_REQUESTS`` of ``requests``, the last among them: peers put the longest there."""
    return tuple([*requests[: MOST_REQUESTS - 1], requests[-1]] if len(requests) > MOST_REQUESTS else requests)


def draw(grids: tuple[Draw, ...], rng: random.Random) -> Cell:
    """Pick a test, then a cell of it, that a CPU can answer.

    Every test has the same chance, however many cells it has. Lengths that are too much are halved; a cell whose window
    would no longer mask a key is picked anew instead.
    """
    while True:
        cell = rng.choice(grids)(rng)
        while cell.work > MOST_WORK:
            halved = tuple((cached // 2, max(1, new // 2)) for cached, new in cell.requests)
            if -1 < cell.layer.window_left >= max(map(sum, halved)):
                break
            cell = replace(cell, requests=halved)
        if cell.work <= MOST_WORK:
            return replace(cell, seed=rng.randrange(2**31))
