"""A batch prepared by sglang: one engine for each model in its layers, and refusals for declined layers."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from attnconf.backends.engines.sglang.engine import Engine, start
from attnconf.backends.engines.sglang.groups import grouped
from attnconf.backends.triton.stack import call_with_room
from attnconf.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

    from attnconf.backends.engines.sglang.engine import MakeBackend
    from attnconf.backends.engines.sglang.library import Library
    from attnconf.cases.inputs.batch import Batch

    Named = Callable[[Batch, int], str]


@dataclass(frozen=True)
class PreparedModels:
    """The engines of one batch by layer. ``refusals`` has the reasons of declined layers; ``named`` names what ran."""

    sglang: Library
    batch: Batch
    engines: dict[int, Engine]
    refusals: dict[int, str]
    named: Named

    def run(self, layer: int, out: torch.Tensor, lse: torch.Tensor | None) -> str:
        """Run one layer and return the engine's class, its method and how its kernels ran. It has no LSE.

        Raises ``UnsupportedError`` for a declined layer, before any launch.
        """
        del lse
        if layer in self.refusals:
            raise UnsupportedError(f"layer {layer}: {self.refusals[layer]}")

        def answer() -> None:
            out[: self.batch.num_rows].copy_(self.engines[layer].run(layer))

        with quiet(self.sglang, self.batch):
            if self.sglang.compiled:
                answer()
            else:
                call_with_room(answer)
        return self.named(self.batch, layer)


def prepare(
    sglang: Library, batch: Batch, refusals: dict[int, str], make_backend: MakeBackend, named: Named
) -> PreparedModels:
    """Start the engines of ``batch``, which build their metadata now."""
    supported = [index for index in range(len(batch.layers)) if index not in refusals]
    with quiet(sglang, batch):
        engines = [start(batch, group, sglang, make_backend) for group in grouped(batch, supported)]
    by_layer = {index: engine for engine in engines for index in engine.group.layers}
    return PreparedModels(sglang, batch, by_layer, refusals, named)


@contextlib.contextmanager
def quiet(sglang: Library, batch: Batch) -> Iterator[None]:
    """Run sglang inside the block without numpy's warnings, which a GPU does not have: checks judge live NaN."""
    drafts = batch.q_lens[0] if batch.mode == "verify" else 1
    with sglang.running(drafts), np.errstate(all="ignore"):
        yield


def how(sglang: Library, batch: Batch, layer: int) -> str:
    """Return how the kernels of ``layer`` ran, and the missing parts of sglang."""
    if not sglang.compiled:
        return "interpreted"
    cache = batch.caches[batch.layers[layer].cache].k
    heads = cache.shape[2] if batch.kv_layout == "NHD" else cache.shape[1]
    said = ["compiled"]
    if not sglang.can_use_store_cache(heads * cache.shape[-1] * cache.element_size()):
        said.append("KV written by torch")  # sglang does this itself where its own writer does not build
    if not sglang.whole:
        said.append("without sgl_kernel")
    return ", ".join(said)
