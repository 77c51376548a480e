"""The logical inputs of a case: queries, keys and values by request and token, before any page exists.

They depend on the seed, layers, requests, dtypes and page size (page borders have probes), but not on the placement
of pages or on poison: the same logical inputs under another layout must give the same answer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

import torch

from attnconf.cases.geometry import first_visible
from attnconf.cases.inputs.noise import normal
from attnconf.cases.inputs.witnesses import SATURATED, Probe, plan_probes
from attnconf.oracle import Problem

if TYPE_CHECKING:
    from attnconf.cases.case import Case, Layer

_CAP_SHARE = 0.8
"""Ordinary scores under a soft cap, as a share of it: there the cap bends them most without flattening them."""

_CAP_ROOM = 0.3
"""Ordinary scores lie above zero if this share of the cap is room enough for a probe to rise in, else below."""

_CAP_MOST = 0.97
"""The highest score of a probe, as a share of the cap: a score at the cap would be infinite before it."""

_AMPLITUDE = 16.0
"""Component of every key along the shared axis, in units of an ordinary component."""

_SATURATION = 100.0
"""Saturated scores, as a multiple of the cap: exp(x) overflows float32 at x = 88.7, and exp(2 x) at half of it."""

_FLOAT16_PRODUCT = 16_384.0
"""The largest product q.k of a probe in float16, in which some kernels also accumulate."""

_LEVEL = 160.0
"""Distance of all scores from zero in some cases: it cancels in a softmax, but exp(160) and exp(-160) leave float32."""

_LEVEL_EVERY = 8
"""Of so many seeds one raises all scores by ``_LEVEL``, and one lowers them."""

_LOG_MEAN_WEIGHT = 0.5
"""The logarithm of the mean of exp(s) over scores of standard deviation one: an ordinary key's weight."""

_SINK_RISE = 1.0
_SINK_SPREAD = 0.5
"""Mean and deviation of sinks: above the logarithm of the number of visible keys."""

_LEAST_PRODUCT = 1e-6
"""The smallest scaled product of a query with its direction by which a probe is moved: a query may be zero."""

_HOST = torch.device("cpu")


@dataclass(frozen=True)
class LogicalLayer:
    """One layer: ``q`` [query tokens, num_qo_heads, D]; ``k``, ``v`` [all tokens, num_kv_heads, D] as stored.

    ``directions`` is q without the component that all queries share; probes move along it. ``sinks`` is [num_qo_heads]
    float32 or None. A redirected layer has its own keys and values, too, which it must not read.
    """

    q: torch.Tensor
    directions: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    sinks: torch.Tensor | None
    probes: tuple[Probe, ...]


@dataclass(frozen=True)
class Logical:
    """The logical inputs of a case, on the CPU. ``q_starts`` and ``kv_starts`` [requests + 1] index the tokens."""

    case: Case
    layers: tuple[LogicalLayer, ...]
    q_starts: tuple[int, ...]
    kv_starts: tuple[int, ...]
    _copies: dict[tuple[int, torch.device], tuple[torch.Tensor, torch.Tensor]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def keys(self, request: int) -> slice:
        """Return the tokens of ``request`` among those of the batch."""
        return slice(self.kv_starts[request], self.kv_starts[request + 1])

    def stored(self, layer: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the layer's own ``k`` and ``v`` on ``device``; they are copied there once."""
        own = self.layers[layer]
        if own.k.device == device:
            return own.k, own.v
        key = (layer, device)
        if key not in self._copies:
            self._copies[key] = (own.k.to(device), own.v.to(device))
        return self._copies[key]

    def read_from(self, layer: int, request: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Return keys and values of ``request`` from the layer's own cache, dequantised to float64 on ``device``."""
        scales, keys = self.case.layers[layer], self.keys(request)
        k, v = (stored[keys].double() for stored in self.stored(layer, device))
        return (k, v) if (scales.k_scale, scales.v_scale) == (1.0, 1.0) else (k * scales.k_scale, v * scales.v_scale)

    def problem(self, layer: int, request: int, device: torch.device = _HOST) -> Problem:
        """Return the oracle's question for one request on one layer."""
        geometry, own = self.case.layers[layer], self.layers[layer]
        spec = self.case.requests[request]
        k, v = self.read_from(self.case.owner(layer), request, device)
        return Problem(
            q=own.q[self.q_starts[request] : self.q_starts[request + 1]].to(device).double(),
            k=k,
            v=v,
            positions=torch.arange(spec.prefix_len, spec.kv_len, device=device),
            kv_head_of=torch.arange(geometry.num_qo_heads, device=device) // geometry.group_size,
            window_left=geometry.window_left,
            sm_scale=geometry.sm_scale,
            soft_cap=geometry.logits_soft_cap,
            sinks=None if own.sinks is None else own.sinks.to(device).double(),
        )


def make_logical(case: Case) -> Logical:
    """Derive the logical inputs of ``case``. They are the same on every machine: only CPU generators are used."""
    q_starts = tuple(accumulate((request.new_tokens for request in case.requests), initial=0))
    kv_starts = tuple(accumulate((request.kv_len for request in case.requests), initial=0))
    rng = torch.Generator().manual_seed(case.seed)
    layers: list[LogicalLayer] = []
    drafts = [_draft(case, index, q_starts[-1], kv_starts[-1], rng) for index in range(len(case.layers))]
    origin = _origins(case, kv_starts)
    for index, draft in enumerate(drafts):
        probes = plan_probes(case, index)
        owner = case.owner(index)
        _plant(case, draft, drafts[owner], probes, index, q_starts, kv_starts, origin)
        if owner != index:
            # The decoy has the same probes, so that its keys matter to a kernel that reads it by mistake.
            _plant(case, draft, draft, probes, index, q_starts, kv_starts, origin)
        layers.append(LogicalLayer(draft.q, draft.directions, draft.k, draft.v, draft.sinks, tuple(probes)))
    stored = tuple(_store(case, layer, geometry, origin) for layer, geometry in zip(layers, case.layers, strict=True))
    return Logical(case, stored, q_starts, kv_starts)


@dataclass
class _Draft:
    q: torch.Tensor
    directions: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    sinks: torch.Tensor | None


def _draft(case: Case, index: int, rows: int, tokens: int, rng: torch.Generator) -> _Draft:
    layer = case.layers[index]
    dim = layer.head_dim
    # Scores of standard deviation one, whatever sm_scale is.
    spread = 1.0 / (layer.sm_scale * math.sqrt(dim))
    # Queries are drawn afresh: numbers shared with a key would give that key all the attention.
    x = torch.randn((rows, layer.num_qo_heads, dim), generator=rng) * spread
    k = normal((tokens, layer.num_kv_heads, dim), rng)
    v = normal((tokens, layer.num_kv_heads, dim), rng)
    q = x
    axis = _axis(case, dim)
    if _shares_axis(case, index):
        x -= (x @ axis)[..., None] * axis
        k -= (k @ axis)[..., None] * axis
        k += _AMPLITUDE * axis
        q = x + raw_base(case, layer) / layer.sm_scale / _AMPLITUDE * axis
    sinks = None
    if layer.sinks:
        visible = max(1, min(tokens, layer.window_left + 1) if layer.window_left >= 0 else tokens // len(case.requests))
        level = math.log(visible) + _SINK_RISE + _base_score(case, layer)
        sinks = level + _SINK_SPREAD * torch.randn(layer.num_qo_heads, generator=rng)
    dtype = getattr(torch, case.q_dtype)
    q = q.to(dtype)
    return _Draft(q, x, k, v, sinks)


def _axis(case: Case, dim: int) -> torch.Tensor:
    """Return the unit vector [dim] of the component that shifts all scores alike."""
    rng = torch.Generator().manual_seed(case.seed + dim)
    return torch.sign(torch.randn(dim, generator=rng)) / math.sqrt(dim)


def _shares_axis(case: Case, index: int) -> bool:
    """Return whether some reader of the cache that layer ``index`` reads has its scores away from zero."""
    owner = case.owner(index)
    return any(raw_base(case, layer) for other, layer in enumerate(case.layers) if case.owner(other) == owner)


def raw_base(case: Case, layer: Layer) -> float:
    """Return the mean score of ordinary keys before a soft cap."""
    cap = layer.logits_soft_cap
    if cap is None:
        return {1: _LEVEL, 2: -_LEVEL}.get(case.seed % _LEVEL_EVERY, 0.0)
    longest = max(request.kv_len for request in case.requests)
    return _CAP_SHARE * cap if _CAP_ROOM * cap >= math.log(max(longest, 2)) + 1.0 else -_CAP_SHARE * cap


def _base_score(case: Case, layer: Layer) -> float:
    """Return the mean score of ordinary keys, from which the scores of sinks and probes are counted."""
    cap = layer.logits_soft_cap
    base = raw_base(case, layer)
    return base if cap is None else cap * math.tanh(base / cap)


def _origins(case: Case, kv_starts: tuple[int, ...]) -> torch.Tensor:
    """Return for each token the one whose key and value it has: itself, or the first owner's on a shared page."""
    origin = torch.arange(kv_starts[-1])
    for index, request in enumerate(case.requests):
        if request.shares_with is not None:
            count = request.shared_pages * case.paging.page_size
            source = kv_starts[request.shares_with]
            origin[kv_starts[index] : kv_starts[index] + count] = origin[source : source + count].clone()
    return origin


def _plant(  # noqa: PLR0913 - one private step of make_logical
    case: Case,
    reader: _Draft,
    target: _Draft,
    probes: list[Probe],
    index: int,
    q_starts: tuple[int, ...],
    kv_starts: tuple[int, ...],
    origin: torch.Tensor,
) -> None:
    """Move each probe's key along its row's query until it takes half of the row's attention."""
    if not probes:
        return
    layer = case.layers[index]
    rows = torch.tensor([q_starts[p.request] + p.row for p in probes])
    heads = torch.tensor([p.head for p in probes])
    tokens = origin[torch.tensor([kv_starts[p.request] + p.token for p in probes])]
    kv_heads = heads // layer.group_size
    targets = torch.tensor([_target_score(case, layer, p) for p in probes])
    q = reader.q[rows, heads].float()
    along = reader.directions[rows, heads]
    current = layer.sm_scale * (q * target.k[tokens, kv_heads]).sum(dim=1)
    step = (targets - current) / (layer.sm_scale * (q * along).sum(dim=1)).clamp_min(_LEAST_PRODUCT)
    flat = target.k.view(-1, layer.head_dim)
    flat.index_add_(0, tokens * layer.num_kv_heads + kv_heads, step[:, None] * along)


def _target_score(case: Case, layer: Layer, probe: Probe) -> float:
    position = case.requests[probe.request].prefix_len + probe.row
    visible = position + 1 - first_visible(position, layer.window_left)
    if probe.name == SATURATED and layer.logits_soft_cap is not None:
        product = _FLOAT16_PRODUCT if case.q_dtype == "float16" else math.inf
        return min(_SATURATION * layer.logits_soft_cap, product * layer.sm_scale)
    return raised_score(case, layer, math.log(max(visible, 2)) + _LOG_MEAN_WEIGHT)


def raised_score(case: Case, layer: Layer, rise: float) -> float:
    """Return sm_scale * q.k of a key whose score lies ``rise`` above ordinary ones, but below the cap."""
    cap = layer.logits_soft_cap
    score = _base_score(case, layer) + rise
    return score if cap is None else cap * math.atanh(min(_CAP_MOST, score / cap))


def _store(case: Case, layer: LogicalLayer, geometry: Layer, origin: torch.Tensor) -> LogicalLayer:
    """Return ``layer`` with its keys and values in stored form; steps that would change nothing are skipped."""
    dtype = getattr(torch, case.kv_dtype)

    def stored(drafted: torch.Tensor, scale: float) -> torch.Tensor:
        if shared:
            drafted = drafted[origin]
        if scale != 1.0:
            drafted = drafted / scale
        if case.kv_dtype == "float8_e4m3fn":
            most = torch.finfo(dtype).max
            drafted = drafted.clamp(-most, most)
        return drafted.to(dtype)

    shared = any(request.shared_pages for request in case.requests)
    k, v = stored(layer.k, geometry.k_scale), stored(layer.v, geometry.v_scale)
    return LogicalLayer(layer.q, layer.directions, k, v, layer.sinks, layer.probes)
