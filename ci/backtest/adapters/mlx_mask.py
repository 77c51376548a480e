"""mlx-lm's ``create_causal_mask``, which every model of it takes its windows from, over PyTorch's arithmetic.

Its arrays are PyTorch's here: the function calls ``arange`` and compares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from attnconf.backends.protocol import Promises
from attnconf.precision import NumericsProfile
from ci.backtest.adapters.kernel import KernelBackend, attend_dense
from ci.backtest.loading import load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from attnconf.cases.inputs.batch import Batch
    from attnconf.cases.shape import KernelShape

PROMISES = Promises(reclaimed_v=frozenset(), empty_kv=False, empty_q=False, batch_invariant=False, hint_invariant=False)


def make(folder: Path, name: str) -> KernelBackend:
    """Return a backend whose masks are the release's."""
    stand_ins = {
        "mlx": {},
        "mlx.core": {"array": torch.Tensor, "arange": torch.arange, "expand_dims": torch.unsqueeze},
        "mlx.utils": {"tree_map": None},
        "mlx_lm.models.cache": {"QuantizedKVCache": object},
    }
    create = vars(load(folder, ["mlx_lm.models.base"], stand_ins=stand_ins))["create_causal_mask"]

    def reasons(shape: KernelShape) -> Iterator[str]:
        if shape.kv_dtype != shape.q_dtype or shape.sinks or shape.soft_cap:
            yield "the mask alone is judged: no scales, no sinks, no soft cap"

    def answer(batch: Batch, layer: int, out: torch.Tensor) -> str:
        geometry = batch.layers[layer].geometry
        window = geometry.window_left + 1 if geometry.window_left >= 0 else None

        def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            mask = create(q.shape[0], k.shape[0] - q.shape[0], window_size=window)
            groups = q.shape[1] // k.shape[1]
            keys, values = (part.float().repeat_interleave(groups, dim=1) for part in (k, v))
            scores = torch.einsum("qhd,khd->hqk", q.float(), keys) * geometry.sm_scale
            weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
            return torch.einsum("hqk,khd->qhd", weights, values).to(q.dtype)

        attend_dense(batch, layer, out, attend)
        return "create_causal_mask"

    return KernelBackend(name, PROMISES, answer, reasons, lambda _: NumericsProfile())
