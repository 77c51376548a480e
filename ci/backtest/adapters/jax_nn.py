"""``jax.nn.dot_product_attention`` on XLA's CPU: one request a call, and queries for every token of it.

Its masks count queries from the first key on, so earlier tokens get queries, too, whose rows are cut off. A window is
``local_window_size=(window_left, 0)``, by which no key behind the row's own is in it either.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

import numpy as np
import torch

from attnconf.backends.protocol import Promises
from attnconf.precision import NumericsProfile
from ci.backtest.adapters.kernel import KernelBackend, attend_dense

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from attnconf.cases.inputs.batch import Batch
    from attnconf.cases.shape import KernelShape

_BLOCK = 64
"""Requests are padded to a multiple of so many tokens, since XLA compiles each length anew."""

PROMISES = Promises(reclaimed_v=frozenset(), empty_kv=False, empty_q=False, batch_invariant=False, hint_invariant=False)


def make(folder: Path, name: str) -> KernelBackend:
    """Return a backend of the release that is unpacked in ``folder``, jaxlib and what both need beside it."""
    sys.path.insert(0, str(folder))
    attention = importlib.import_module("jax.nn").dot_product_attention

    def reasons(shape: KernelShape) -> Iterator[str]:
        if shape.q_dtype != "float32" or shape.kv_dtype != shape.q_dtype:
            yield "float32 is asked, which XLA multiplies exactly on a CPU"
        if shape.sinks or shape.soft_cap:
            yield "the function has no sinks and no soft cap"

    def answer(batch: Batch, layer: int, out: torch.Tensor) -> str:
        geometry = batch.layers[layer].geometry
        windowed = geometry.window_left >= 0

        def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            keys, new = k.shape[0], q.shape[0]
            tokens = -(-keys // _BLOCK) * _BLOCK
            queries = np.pad(q.numpy(), [(keys - new, tokens - keys), (0, 0), (0, 0)])
            rest = [np.pad(part.numpy(), [(0, tokens - keys), (0, 0), (0, 0)]) for part in (k, v)]
            found = attention(
                queries,
                *rest,
                scale=geometry.sm_scale,
                is_causal=not windowed,
                local_window_size=(geometry.window_left, 0) if windowed else None,
                implementation="xla",
            )
            return torch.from_numpy(np.array(found[keys - new : keys]))

        attend_dense(batch, layer, out, attend)
        return "dot_product_attention"

    return KernelBackend(name, PROMISES, answer, reasons, lambda _: NumericsProfile())
