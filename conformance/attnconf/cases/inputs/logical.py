"""The logical inputs of a case: queries, keys and values by request and token, before any page exists.

They depend on the seed, layers, requests, dtypes and page size (page borders have probes), but not on the placement
of pages or on poison: the same logical inputs under another layout must give the same answer. They are the same bits on
every device, so that a failure on a GPU is asked again on a CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING

import torch

from attnconf.cases.dtypes import NVFP4
from attnconf.cases.inputs.cancelling import cancel, pairs_of
from attnconf.cases.inputs.levels import AMPLITUDE, base_score, cancels, far, raw_base, sink_shift
from attnconf.cases.inputs.noise import normal
from attnconf.cases.inputs.planting import plant
from attnconf.cases.inputs.stored import block_factors, divided, stored
from attnconf.cases.inputs.witnesses import Probe, plan_probes
from attnconf.cases.trees import depths
from attnconf.oracle.packed import scaled
from attnconf.oracle.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnconf.cases.case import Case
    from attnconf.cases.request import Request

_SINK_RISE = 1.0
_SINK_SPREAD = 0.5
"""Mean and deviation of sinks: above the logarithm of the number of visible keys."""

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class LogicalLayer:
    """One layer: ``q`` [query tokens, num_qo_heads, D]; ``k`` [all tokens, num_kv_heads, D] and ``v`` as stored.

    ``v`` is [all tokens, num_kv_heads, value_dim]. Rows of NVFP4 are bytes (``stored.py``).
    ``sinks`` is [num_qo_heads] float32 or None. A redirected layer has its own keys and values, too, which it must not
    read. ``probes`` are the keys that were moved for its queries.
    """

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    sinks: torch.Tensor | None
    probes: tuple[Probe, ...]


@dataclass(frozen=True)
class Logical:
    """The logical inputs of a case, on one device. ``q_starts`` and ``kv_starts`` [requests + 1] index the tokens.

    ``aimed`` and ``stale`` keep what is made from them for dead slots: all batches and scenes of a case share it.
    """

    case: Case
    layers: tuple[LogicalLayer, ...]
    q_starts: tuple[int, ...]
    kv_starts: tuple[int, ...]
    aimed: dict[tuple[int, torch.device], torch.Tensor] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    stale: dict[tuple[object, ...], tuple[torch.Tensor, torch.Tensor]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _copies: dict[tuple[int, torch.device], LogicalLayer] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def keys(self, request: int) -> slice:
        """Return the tokens of ``request`` among those of the batch."""
        return slice(self.kv_starts[request], self.kv_starts[request + 1])

    def on(self, layer: int, device: torch.device) -> LogicalLayer:
        """Return ``layer`` on ``device``; it is copied there once."""
        own = self.layers[layer]
        if own.k.device == device:
            return own
        key = (layer, device)
        if key not in self._copies:
            sinks = None if own.sinks is None else own.sinks.to(device)
            self._copies[key] = LogicalLayer(own.q.to(device), own.k.to(device), own.v.to(device), sinks, own.probes)
        return self._copies[key]

    def problem(self, layer: int, request: int, device: torch.device = _CPU) -> Problem:
        """Return the oracle's question for one request on one layer. It copies nothing that is on ``device``."""
        geometry, own = self.case.layers[layer], self.on(layer, device)
        owner = self.case.owner(layer)
        spec, scales, keys = self.case.requests[request], self.case.layers[owner], self.keys(request)
        read = self.on(owner, device)
        return Problem(
            q=own.q[self.q_starts[request] : self.q_starts[request + 1]],
            k=read.k[keys],
            v=read.v[keys],
            k_scale=scales.k_scale,
            v_scale=scales.v_scale,
            k_scales=scales.k_scales,
            v_scales=scales.v_scales,
            positions=torch.arange(spec.prefix_len, spec.kv_len) if not spec.tree else _positions(spec),
            kv_head_of=_kv_heads(geometry.num_qo_heads, geometry.group_size),
            window_left=geometry.window_left,
            causal=not geometry.bidirectional,
            window_right=geometry.window_left if geometry.bidirectional else -1,
            chunk_size=geometry.chunk_size,
            sm_scale=geometry.sm_scale,
            soft_cap=geometry.logits_soft_cap,
            sinks=own.sinks,
            spans=spec.queried_spans if geometry.spans else (),
            tree=spec.tree,
            tree_start=spec.prefix_len,
            tokens=tuple(range(len(spec.tree))),
            q_scale=self.case.q_scale(layer),
            out_scale=self.case.out_scale(layer),
        )


def _positions(request: Request) -> torch.Tensor:
    """Return the positions of the rows of a tree: their depths behind the prefix."""
    return torch.tensor(depths(request.tree)) + request.prefix_len


@lru_cache(maxsize=64)
def _kv_heads(heads: int, group: int) -> torch.Tensor:
    """Return the KV head of each query head. Nobody writes to it, so all problems share it."""
    return torch.arange(heads) // group


def make_logical(case: Case, device: torch.device = _CPU) -> Logical:
    """Derive the logical inputs of ``case`` on ``device``. They are the same bits on every machine and device."""
    q_starts = tuple(accumulate((request.new_tokens for request in case.requests), initial=0))
    kv_starts = tuple(accumulate((request.kv_len for request in case.requests), initial=0))
    rng = torch.Generator().manual_seed(case.seed)
    drafts = [_draft(case, index, q_starts[-1], kv_starts[-1], rng, device) for index in range(len(case.layers))]
    origins = _origins(case, kv_starts)
    planned = [plan_probes(case, index) for index in range(len(case.layers))]
    for index, (draft, probes) in enumerate(zip(drafts, planned, strict=True)):
        rows = [q_starts[probe.request] + probe.row for probe in probes]
        tokens = [kv_starts[probe.request] + probe.token for probe in probes]
        if origins is not None:
            tokens = origins[torch.tensor(tokens, dtype=torch.int64)].tolist()
        owner = case.owner(index)
        own = scaled(draft.q, case.q_scale(index))
        plant(case, case.layers[index], drafts[owner].k, own, draft.directions, probes, rows, tokens)
        if owner != index:
            # The decoy has the same probes, so that its keys matter to a kernel that reads it by mistake.
            plant(case, case.layers[index], draft.k, own, draft.directions, probes, rows, tokens)
    if cancels(case):
        _cancel(case, drafts, planned, kv_starts, None if origins is None else origins.tolist())
    origins = None if origins is None else origins.to(device)
    layers = []
    for draft, probes, geometry in zip(drafts, planned, case.layers, strict=True):
        k, v = (
            _stored(case, divided(one, 1.0, by_head), origins, scale)
            for one, scale, by_head in (
                (draft.k, geometry.k_scale, geometry.k_scales),
                (draft.v, geometry.v_scale, geometry.v_scales),
            )
        )
        layers.append(LogicalLayer(draft.q, k, v, draft.sinks, tuple(probes)))
    return Logical(case, tuple(layers), q_starts, kv_starts)


def _cancel(
    case: Case,
    drafts: Sequence[_Draft],
    planned: Sequence[Sequence[Probe]],
    kv_starts: Sequence[int],
    origins: Sequence[int] | None,
) -> None:
    """Let values cancel in each cache that is read, for all of its readers."""
    for owner, draft in enumerate(drafts):
        readers = [index for index in range(len(case.layers)) if case.owner(index) == owner]
        pairs = pairs_of(case, [(case.layers[index], planned[index]) for index in readers], kv_starts, origins)
        cancel(draft.k, draft.v, pairs)


@dataclass(frozen=True)
class _Draft:
    """A layer before its numbers are stored. ``directions`` is q without the component that all queries share."""

    q: torch.Tensor
    directions: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    sinks: torch.Tensor | None


def _draft(  # noqa: PLR0913 - one private step of make_logical
    case: Case, index: int, rows: int, tokens: int, rng: torch.Generator, device: torch.device
) -> _Draft:
    layer = case.layers[index]
    dim = layer.head_dim
    # Scores of standard deviation one, whatever sm_scale is.
    spread = 1.0 / (layer.sm_scale * math.sqrt(dim))
    x = normal((rows, layer.num_qo_heads, dim), rng, device, stream="queries")
    k = normal((tokens, layer.num_kv_heads, dim), rng, device)
    v = normal((tokens, layer.num_kv_heads, layer.value_dim), rng, device)
    if case.kv_dtype == NVFP4:
        v *= block_factors(tokens, layer.num_kv_heads, layer.value_dim, device)
    if _shares_axis(case, index):
        own_signs, count = _signs(case.seed, dim, is_far=far(case))
        signs, share = own_signs.to(device, non_blocking=True), 1.0 / math.sqrt(count)
        x = _without(x, signs, count) * spread
        k = _without(k, signs, count) + AMPLITUDE * share * signs
        q = x + raw_base(case, layer) / layer.sm_scale / AMPLITUDE * share * signs
    else:
        x *= spread
        q = x
    sinks = None
    if layer.sinks:
        visible = max(1, min(tokens, layer.reach + 1) if layer.reach >= 0 else tokens // len(case.requests))
        level = math.log(visible) + _SINK_RISE + base_score(case, layer)
        shifts = torch.tensor([sink_shift(case, layer, head) for head in range(layer.num_qo_heads)])
        sinks = (level + _SINK_SPREAD * normal((layer.num_qo_heads,), rng) + shifts).to(device)
    return _Draft(stored(q, case.q_scale(index), case.q_dtype), x, k, v, sinks)


@lru_cache(maxsize=64)
def _signs(seed: int, dim: int, *, is_far: bool) -> tuple[torch.Tensor, float]:
    """Return the signs [dim] of the axis that shifts all scores alike, and how many components it has, all equal.

    Far levels have an axis of one component, and zeros: rounding a large number that all keys have in common shifts
    their scores alike, and leaves the others' bits to the rest of the query. Nobody writes to it.
    """
    rng = torch.Generator().manual_seed(seed + dim)
    signs = 2.0 * torch.randint(0, 2, (dim,), generator=rng) - 1.0
    if is_far:
        signs *= torch.arange(dim) == seed % dim
    return signs, float(signs.abs().sum())


def _without(numbers: torch.Tensor, signs: torch.Tensor, count: float) -> torch.Tensor:
    """Return noise without its component along ``signs``. The sums are exact (``noise.py``), so in any order."""
    return numbers - (numbers * signs).sum(dim=-1, keepdim=True) * (1.0 / count) * signs


def _shares_axis(case: Case, index: int) -> bool:
    """Return whether some reader of the cache that layer ``index`` reads has its scores away from zero."""
    owner = case.owner(index)
    return any(raw_base(case, layer) for other, layer in enumerate(case.layers) if case.owner(other) == owner)


def _origins(case: Case, kv_starts: tuple[int, ...]) -> torch.Tensor | None:
    """Return for each token the one whose key and value it has: itself, or the first owner's on a shared page.

    None where no page is shared.
    """
    if not any(request.shared_pages for request in case.requests):
        return None
    origin = torch.arange(kv_starts[-1])
    for index, request in enumerate(case.requests):
        if request.shares_with is not None:
            count = request.shared_pages * case.paging.page_size
            source = kv_starts[request.shares_with]
            origin[kv_starts[index] : kv_starts[index] + count] = origin[source : source + count].clone()
    return origin


def _stored(case: Case, drafted: torch.Tensor, origins: torch.Tensor | None, scale: float) -> torch.Tensor:
    """Return keys or values in stored form; steps that would change nothing are skipped."""
    if origins is not None:
        drafted = drafted[origins]
    return stored(drafted, scale, case.kv_dtype)
