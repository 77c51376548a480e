"""Scene: one request on one layer of a laid-out case, and the keys and values under any page ids."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from attnconf.cases.case import Poison
from attnconf.cases.dtypes import NVFP4
from attnconf.cases.inputs.assemble import aimed_keys
from attnconf.cases.inputs.noise import normal, scaled_run
from attnconf.cases.inputs.pages import pool_of
from attnconf.cases.inputs.poison import STALE_SCALE, bits
from attnconf.cases.inputs.stored import packed
from attnconf.cases.recorded import NULL_PAGE

if TYPE_CHECKING:
    from attnconf.cases.case import Case, Layer
    from attnconf.cases.inputs.batch import Pool
    from attnconf.cases.inputs.layout import Layout
    from attnconf.cases.inputs.logical import Logical
    from attnconf.cases.request import Request
    from attnconf.oracle.problem import Problem

_ZEROS = Poison(k="zero", v="zero")

_STALE_BLOCK = 64
"""Dead slots whose contents are drawn; more of them repeat these."""


@dataclass(frozen=True)
class Scene:
    """The input of a mistake: one request on one layer of a laid-out case.

    ``dead`` has the numbers of dead slots that were read of it: of their contents only the kind is known. With
    ``as_poisoned`` they are zeros where the case says so, which are known.
    """

    logical: Logical
    layout: Layout
    layer: int
    request: int
    problem: Problem
    dead: list[int] = field(default_factory=list)
    as_poisoned: bool = False

    @property
    def case(self) -> Case:
        """The case."""
        return self.logical.case

    @property
    def spec(self) -> Request:
        """The request."""
        return self.case.requests[self.request]

    @property
    def owner(self) -> Layer:
        """The layer whose keys and values are read."""
        return self.case.layers[self.case.owner(self.layer)]

    @property
    def pool(self) -> Pool:
        """The pool of these keys and values."""
        return pool_of(self.case, self.case.owner(self.layer))

    @cached_property
    def pages(self) -> list[int]:
        """The ids of the request's pages in that pool, in order."""
        return self.layout.pages(self.pool, self.request)

    @property
    def first_seen(self) -> int:
        """The oldest key that any row of the request sees."""
        return self.case.layers[self.layer].first_seen(self.spec.prefix_len)

    @property
    def weighs(self) -> bool:
        """Whether some row has a choice: over a single key and without a sink, scores do not matter."""
        several, chunk = self.spec.kv_len > 1 and self.problem.window_left != 0, self.problem.chunk_size
        if chunk is not None:  # one of two neighbours is no first token of a chunk
            several = any(position % chunk for position in self.problem.positions[:2].tolist())
        return self.problem.sinks is not None or several

    def row_of_table(self) -> list[int]:
        """Return the pages of that pool for the whole row of the block table, with its unused columns.

        An id outside the pool or without a translation becomes the null page, since its contents are unknown.
        """
        return self.translated(self.layout.block_tables[self.request].tolist())

    def translated(self, row: list[int]) -> list[int]:
        """Return ids of the full pool as those of the layer's pool, in which an unknown one is the null page."""
        if self.pool == "swa" and self.layout.swa_page is not None:
            return [self.layout.swa_page.get(page, NULL_PAGE) for page in row]
        return [page if 0 <= page < self.layout.num_pages["full"] else NULL_PAGE for page in row]

    def keys_at(
        self, pages: list[int], slots: torch.Tensor | None = None, tail: int = 0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return stored keys and values, [n, num_kv_heads, their width], read through ``pages`` of the layer's pool.

        ``slots`` [n] int64 number the slots of those pages in order; the default is the first kv_len of them. A dead
        slot has the contents that ``assemble`` gives it in a stale pool, which every backend must tolerate: a key aimed
        at some row. The keys of the first ``tail`` dead slots, behind the request's end in its last page, are aimed at
        the request's last row.
        """
        device, size = self.problem.k.device, self.layout.page_size
        tokens = self.layout.tokens(self.pool).numpy().reshape(-1, size)
        ids = np.array(pages, dtype=np.int64)
        read = tokens[np.where(ids < len(tokens), ids, NULL_PAGE)].reshape(-1)
        index = read[: self.problem.k.shape[0]] if slots is None else read[slots.numpy()]
        live = torch.from_numpy(np.maximum(index, 0)).to(device, non_blocking=True)
        owner = self.logical.on(self.case.owner(self.layer), device)
        k, v = bits(owner.k)[live], bits(owner.v)[live]
        dead = np.flatnonzero(index < 0)
        if len(dead) and self.as_poisoned and self.case.poison == _ZEROS:
            places = torch.from_numpy(dead).to(device, non_blocking=True)
            k[places] = v[places] = 0
        elif len(dead):
            self.dead.append(len(dead))
            places = torch.from_numpy(dead).to(device, non_blocking=True)
            k[places], v[places] = (bits(stale) for stale in self._stale(len(dead), tail))
        return k.view(owner.k.dtype), v.view(owner.v.dtype)

    def _stale(self, count: int, tail: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the stored keys and values of ``count`` dead slots, as repetitions of one block."""
        owner, device = self.case.owner(self.layer), self.problem.k.device
        key = (owner, device, *((tail, self.request) if tail else ()))
        kept = self.logical.stale
        if key not in kept:
            kept[key] = self._stale_block(owner, tail)
        k, v = kept[key]
        if count <= len(k):
            return k[:count], v[:count]
        repeated = torch.arange(count, device=k.device) % len(k)
        return bits(k)[repeated].view(k.dtype), bits(v)[repeated].view(v.dtype)

    def _stale_block(self, owner: int, tail: int) -> tuple[torch.Tensor, torch.Tensor]:
        device = self.problem.k.device
        rng = torch.Generator().manual_seed(self.case.seed)
        rows = torch.randint(0, self.logical.q_starts[-1], (tail + _STALE_BLOCK,), generator=rng)
        rows[:tail] = self.logical.q_starts[self.request + 1] - 1
        turns = torch.arange(len(rows)).numpy()
        k = aimed_keys(self.case, owner, self.logical, rows.numpy(), turns, device)
        shape = (*k.shape[:2], self.problem.value_dim)
        if self.case.kv_dtype == NVFP4:
            return k, packed(STALE_SCALE * normal(shape, rng, device))
        return k, scaled_run(math.prod(shape), rng, device, STALE_SCALE, k.dtype).view(shape)
