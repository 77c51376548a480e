"""From a cell to tensors: inputs and page tables as the peer has them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING

import torch

from attnconf.cases.inputs.batch import Batch, KVCache, LayerInputs
from attnconf.cases.inputs.pages import pages_needed
from attnconf.cases.inputs.poison import bits
from attnconf.cases.inputs.storage import allocate, by_token
from attnconf.judging.execution import same_memory
from ci.benchmarks.peerstyles.answer import answer, parts

if TYPE_CHECKING:
    from attnconf.cases.case import Layer
    from ci.benchmarks.peerstyles.cell import Cell

_FP8_SHARE = 0.1
"""FlashInfer's and vLLM's to_float8 use a tenth of the type's range."""
_BANK = 2**24


@dataclass(frozen=True)
class Posed:
    """A cell made ready: what a backend receives, what is right, and the projection behind which it is compared.

    ``contiguous`` is the same question over contiguous pages, for a peer that compares bits with that.
    """

    cell: Cell
    batch: Batch
    out: torch.Tensor
    lse: torch.Tensor
    behind: torch.Tensor | None
    contiguous: Batch | None
    pristine: list[torch.Tensor]

    @property
    def intact(self) -> bool:
        """Whether no backend has written to the inputs."""
        return same_memory([whole for _, whole in self.batch.memory()], self.pristine)


def pose(cell: Cell) -> Posed:
    """Draw the tensors of ``cell``, and answer it."""
    rng = torch.Generator().manual_seed(cell.seed)
    tables, pages = _tables(cell, rng)
    q, k, v, behind = _inputs(cell, pages, rng)
    layer, k_stored, v_stored = _quantise(cell, k, v)
    size = cell.page_size
    slots = [
        tables[row][torch.arange(sum(lengths)) // size] * size + torch.arange(sum(lengths)) % size
        for row, lengths in enumerate(cell.requests)
    ]
    if cell.inputs == "coded":
        _code(cell, v_stored, slots)
    _bury(cell, (k_stored, v_stored), slots)
    sinks = _sinks(cell, rng)
    heads = (layer.num_kv_heads, layer.head_dim)
    exact = (k.view(-1, *heads), v.view(-1, *heads))
    stored = (k_stored.view(-1, *heads), v_stored.view(-1, *heads))
    golden = exact if cell.exact_golden else (stored[0].float() * layer.k_scale, stored[1].float() * layer.v_scale)
    out, lse = answer(cell, q, [(golden[0][at].float(), golden[1][at].float()) for at in slots], sinks)
    batch = _batch(cell, layer, q, sinks, (k_stored, v_stored), _table_tensor(cell, tables, pages, rng))
    contiguous = None
    if cell.tolerance.bitwise:
        contiguous = _contiguous(cell, layer, q, sinks, [(stored[0][at], stored[1][at]) for at in slots])
    return Posed(cell, batch, out, lse, behind, contiguous, [whole.clone() for _, whole in batch.memory()])


def _tables(cell: Cell, rng: torch.Generator) -> tuple[list[torch.Tensor], int]:
    """Return each request's page ids by the peer's rule, and the size of the pool."""
    counts = [pages_needed(sum(lengths), cell.page_size) for lengths in cell.requests]
    first = int(cell.null_page)
    total = sum(counts)
    if cell.table == "with replacement":
        ids = torch.randint(0, cell.pool_pages, (total,), generator=rng)
        return parts(ids, counts), cell.pool_pages
    pool = total + first + cell.pool_pages
    if cell.table == "shuffled":
        # The last page of a pool with slack is the one that reclaimed pages point at.
        usable = pool - first - int(cell.reclaimed)
        ids = torch.randperm(usable, generator=rng)[:total] + first
    else:
        ids = torch.arange(first, total + first)
    tables = parts(ids, counts)
    if cell.table == "shuffled within requests":
        tables = [table[torch.randperm(len(table), generator=rng)] for table in tables]
    if cell.shared_pages:
        tables[1:] = [torch.cat([tables[0][: cell.shared_pages], table[cell.shared_pages :]]) for table in tables[1:]]
    return tables, pool


def _inputs(
    cell: Cell, pages: int, rng: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Return q [tokens, heads, D], k and v [pages, page_size, heads, D] in q's dtype, and the projection behind."""
    layer = cell.layer
    tokens = sum(new for _, new in cell.requests)
    dtype = getattr(torch, cell.q_dtype)
    pool = (pages, cell.page_size, layer.num_kv_heads, layer.head_dim)
    rows = (tokens, layer.num_qo_heads, layer.head_dim)
    if cell.inputs == "coded":
        return torch.zeros(rows, dtype=dtype), torch.zeros(pool, dtype=dtype), torch.zeros(pool, dtype=dtype), None
    if cell.inputs == "projected":

        def linear(ins: int, outs: int) -> torch.Tensor:
            return (2 * torch.rand((ins, outs), generator=rng) - 1) / math.sqrt(ins)

        cached = torch.randn((pages * cell.page_size, cell.hidden), generator=rng)
        hidden = torch.randn((tokens, cell.hidden), generator=rng)
        q = hidden @ linear(cell.hidden, layer.num_qo_heads * layer.head_dim)
        k, v = (cached @ linear(cell.hidden, layer.num_kv_heads * layer.head_dim) for _ in range(2))
        behind = linear(layer.num_qo_heads * layer.head_dim, cell.hidden)
        return q.view(rows).to(dtype), k.view(pool).to(dtype), v.view(pool).to(dtype), behind
    q = _noise(rows, rng)
    q = q if cell.mean == 0.0 else cell.mean + cell.spread * q
    k, v = (cell.mean + cell.spread * _noise(pool, rng) for _ in range(2))
    return q.to(dtype), k.to(dtype), v.to(dtype), None


def warm() -> None:
    """Draw the bank of noise, so that no cell is charged for it."""
    _bank()


@cache
def _bank() -> torch.Tensor:
    return torch.randn(_BANK, generator=torch.Generator().manual_seed(0))


def _noise(shape: tuple[int, ...], rng: torch.Generator) -> torch.Tensor:
    """Return normal noise, cut from a bank of it at a drawn place: to draw whole pools anew would be all that costs."""
    start = int(torch.randint(0, _BANK, (1,), generator=rng))
    count = math.prod(shape)
    if start + count <= _BANK:
        return _bank()[start : start + count].view(shape)
    return torch.cat([_bank()[start:], *[_bank()] * (count // _BANK + 1)])[:count].view(shape)


def _quantise(cell: Cell, k: torch.Tensor, v: torch.Tensor) -> tuple[Layer, torch.Tensor, torch.Tensor]:
    """Return the layer with the scales of the stored K and V, and these."""
    dtype = getattr(torch, cell.kv_dtype)
    layer = cell.layer
    if cell.kv_dtype != "float8_e4m3fn":
        return layer, k.clone(), v.clone()
    most = torch.finfo(dtype).max
    if cell.amax:
        largest = [float(tensor.abs().max()) for tensor in (k, v)]
        if cell.amax == "joint":
            largest = [max(largest)] * 2
        scales = [value / (_FP8_SHARE * most) for value in largest]
        layer = layer.model_copy(update={"k_scale": scales[0], "v_scale": scales[1]})
        k, v = k.float() / scales[0], v.float() / scales[1]
    return layer, k.float().clamp(-most, most).to(dtype), v.float().clamp(-most, most).to(dtype)


def _code(cell: Cell, v: torch.Tensor, slots: list[torch.Tensor]) -> None:
    """Write 1 into the values of cached tokens and powers of two into those of new ones."""
    flat = v.view(-1, *v.shape[2:])
    for (cached, new), at in zip(cell.requests, slots, strict=True):
        code = torch.ones(cached + new)
        code[cached:] = 2.0 ** torch.arange(1, new + 1)
        bits(flat)[at] = bits(code[:, None, None].expand(-1, *flat.shape[1:]).to(v.dtype))


def _bury(cell: Cell, stored: tuple[torch.Tensor, torch.Tensor], slots: list[torch.Tensor]) -> None:
    """Overwrite the slots that no token owns, unless they keep their noise."""
    if cell.dead == "noise":
        return
    used = torch.cat(slots)
    dead = torch.ones(stored[0].shape[0] * cell.page_size, dtype=torch.bool)
    dead[used] = False
    tails = torch.zeros_like(dead)
    if cell.dead == "nan":  # free pages are NaN, the tails of pages in use are 0
        in_use = torch.zeros(stored[0].shape[0], dtype=torch.bool)
        in_use[used // cell.page_size] = True
        tails = in_use.repeat_interleave(cell.page_size) & dead
    for tensor in stored:
        flat = tensor.view(-1, *tensor.shape[2:])
        value = torch.full((1,), 0.0 if cell.dead == "zero" else math.nan).to(flat.dtype)
        bits(flat)[dead] = bits(value)
        bits(flat)[tails] = 0


def _sinks(cell: Cell, rng: torch.Generator) -> torch.Tensor | None:
    heads = cell.layer.num_qo_heads
    if not cell.layer.sinks:
        return None
    if cell.sinks == "steps":
        return 2.0 + torch.arange(heads).remainder(cell.layer.group_size).remainder(4).float()
    return 5.0 * torch.rand(heads, generator=rng)


def _table_tensor(cell: Cell, tables: list[torch.Tensor], pages: int, rng: torch.Generator) -> torch.Tensor:
    """Return the block table: 0 in unused columns, or random pages where the whole table is drawn."""
    shape = (len(tables), max(len(table) for table in tables))
    filled = torch.zeros(shape, dtype=torch.int32)
    if cell.table == "with replacement":
        filled = torch.randint(0, pages, shape, generator=rng, dtype=torch.int32)
    for row, (table, (cached, _)) in enumerate(zip(tables, cell.requests, strict=True)):
        filled[row, : len(table)] = table.to(torch.int32)
        if cell.reclaimed:
            filled[row, : max(0, cached - cell.layer.window_left) // cell.page_size] = pages - 1
    return filled


def _batch(  # noqa: PLR0913 - one private step of pose
    cell: Cell,
    layer: Layer,
    q: torch.Tensor,
    sinks: torch.Tensor | None,
    stored: tuple[torch.Tensor, torch.Tensor],
    table: torch.Tensor,
) -> Batch:
    k = stored[0]
    store = allocate(
        k.shape[0],
        cell.page_size,
        k.shape[2],
        (k.shape[3], stored[1].shape[3]),
        cell.kv_layout,
        cell.storage,
        k.dtype,
        k.device,
    )
    for view, values in zip(store.views(), stored, strict=True):
        by_token(view, cell.kv_layout).copy_(values)
    q_lens = tuple(new for _, new in cell.requests)
    kv_lens = tuple(map(sum, cell.requests))
    return Batch(
        mode=cell.mode,
        page_size=cell.page_size,
        kv_layout=cell.kv_layout,
        storage=cell.storage,
        qo_indptr=torch.tensor([0, *accumulate(q_lens)], dtype=torch.int32),
        seq_lens=torch.tensor(kv_lens, dtype=torch.int32),
        block_tables=table,
        full_to_swa=None,
        q_lens=q_lens,
        kv_lens=kv_lens,
        max_q_len=max(q_lens),
        max_seq_len=max(kv_lens),
        layers=(LayerInputs(layer, q.clone(), sinks, 0, q.dtype),),
        caches=(KVCache(*store.views(), "full"),),
    )


def _contiguous(
    cell: Cell,
    layer: Layer,
    q: torch.Tensor,
    sinks: torch.Tensor | None,
    tokens: list[tuple[torch.Tensor, torch.Tensor]],
) -> Batch:
    """Return the batch over contiguous pages without slack, which hold what behind a window was reclaimed, too."""
    counts = [pages_needed(sum(lengths), cell.page_size) for lengths in cell.requests]
    stored = tuple(
        torch.cat([_whole_pages(request[which], cell.page_size) for request in tokens]) for which in range(2)
    )
    table = torch.zeros((len(counts), max(counts)), dtype=torch.int32)
    for row, (count, start) in enumerate(zip(counts, accumulate(counts, initial=0), strict=False)):
        table[row, :count] = torch.arange(start, start + count)
    return _batch(cell, layer, q, sinks, (stored[0], stored[1]), table)


def _whole_pages(tokens: torch.Tensor, page_size: int) -> torch.Tensor:
    pages = pages_needed(tokens.shape[0], page_size)
    whole = torch.zeros((pages * page_size, *tokens.shape[1:]), dtype=tokens.dtype)
    whole[: tokens.shape[0]] = tokens
    return whole.view(pages, page_size, *tokens.shape[1:])
