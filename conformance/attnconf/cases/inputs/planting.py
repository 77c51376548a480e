"""Planting: move keys along queries until they take much of their attention, with the same bits on every device.

Sums are taken in float64, whose last bits depend on their order and so on the device. So each step along a query is
rounded to a few bits: what is added to a key is then exact, and the same everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from attnconf.cases.inputs.levels import target_scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnconf.cases.case import Case, Layer
    from attnconf.cases.inputs.witnesses import Probe

_LEAST_PRODUCT = 1e-6
"""The smallest scaled product of a query with its direction by which a key is moved: a query may be zero."""

_FLOAT64_BITS = 53
_STEP_BITS = 12
"""Significant bits of a step. Two devices differ in it only if a sum lies within 2^-50 of the middle between two."""


def plant(  # noqa: PLR0913 - whose keys move, along whose queries, and which ones
    case: Case,
    layer: Layer,
    k: torch.Tensor,
    q: torch.Tensor,
    directions: torch.Tensor,
    probes: Sequence[Probe],
    rows: Sequence[int],
    tokens: Sequence[int],
) -> None:
    """Move the key of each probe of ``layer`` in ``k`` [tokens, KV heads, D] until it takes half of its row's weight.

    ``rows`` and ``tokens`` are the probes' query rows and keys among those of the batch; ``q`` and ``directions`` are
    [rows, query heads, D]. What counts in sum are the numbers before any key has moved.
    """
    if not probes:
        return
    heads = [probe.head for probe in probes]
    scores = target_scores(case, layer, probes)
    places = np.array(tokens) * layer.num_kv_heads + np.array(heads) // layer.group_size
    changed, which = np.unique(places, return_inverse=True)
    index = torch.from_numpy(np.stack([rows, heads, places, which])).to(k.device, non_blocking=True)
    row, head, place, which_of = index
    moved = torch.from_numpy(changed).to(k.device, non_blocking=True)
    flat = k.view(-1, layer.head_dim)
    along = directions[row, head].double()
    own = q[row, head].double()
    current = layer.sm_scale * (own * flat[place].double()).sum(dim=1)
    rise = layer.sm_scale * (own * along).sum(dim=1)
    targets = torch.tensor(scores, dtype=torch.float64).to(k.device, non_blocking=True)
    step = rounded((targets - current) / rise.clamp_min(_LEAST_PRODUCT))
    change = torch.zeros((len(moved), layer.head_dim), dtype=torch.float64, device=k.device)
    change.index_add_(0, which_of, step[:, None] * along)
    flat[moved] = (flat[moved].double() + change).float()


def aimed(q: torch.Tensor, layer: Layer, score: float) -> torch.Tensor:
    """Return float32 keys along the queries ``q`` [..., D] whose scaled product with them is ``score``."""
    own = q.double()
    step = score / (layer.sm_scale * (own * own).sum(dim=-1, keepdim=True)).clamp_min(_LEAST_PRODUCT)
    return (rounded(step) * own).float()


def rounded(numbers: torch.Tensor) -> torch.Tensor:
    """Return float64 ``numbers`` with ``_STEP_BITS`` significant bits (Veltkamp's splitting; Dekker 1971)."""
    spread = numbers * (2.0 ** (_FLOAT64_BITS - _STEP_BITS) + 1.0)
    return spread - (spread - numbers)
