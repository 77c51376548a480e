"""What the adapters have in common: a backend around one release's kernels, and a prepared batch of it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import TYPE_CHECKING

import torch

from attnconf.backends.protocol import EvidenceKind, Promises, Unsupported, refusals
from attnconf.backends.tables import block_tables_for
from attnconf.cases.dtypes import NVFP4
from attnconf.errors import UnsupportedError
from attnconf.platforms import detect
from attnconf.precision import NumericsProfile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from attnconf.backends.protocol import Prepared
    from attnconf.cases.inputs.batch import Batch
    from attnconf.cases.shape import KernelShape
    from attnconf.platforms import Platform

    Answer = Callable[[Batch, int, torch.Tensor], str]
    Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
    Reasons = Callable[[KernelShape], Iterator[str]]


_KNOWN = frozenset({"windowed", "soft_cap", "sinks"})
"""Features of a shape that adapters pass on, or decline by their own reasons."""

_DTYPES = frozenset({"float32", "float16", "bfloat16"})


@dataclass(frozen=True)
class KernelBackend:
    """A backend whose ``answer`` fills the output of one layer of a batch, and returns the name of the kernel.

    ``reasons`` says why a shape is unsupported. ``profile`` gives the numerics of a dtype of queries.
    """

    name: str
    promises: Promises
    answer: Answer
    reasons: Reasons
    profile: Callable[[KernelShape], NumericsProfile]
    evidence: EvidenceKind = "kernel"

    def supports(self, shape: KernelShape, platform: Platform) -> Unsupported | None:
        """Return None, or the first reason why the release does not take this shape.

        A feature that adapters were not written for is declined, whatever the release does.
        """
        del platform
        new = (one.name for one in fields(shape) if one.name not in _KNOWN and getattr(shape, one.name) is True)
        reasons = chain((f"the adapter does not pass {name} on" for name in new), self.reasons(shape))
        if shape.kv_dtype == NVFP4:
            return Unsupported(f"the adapter passes no scales of blocks on, as {NVFP4} KV has them")
        if shape.head_dim_v != shape.head_dim:
            return Unsupported("the adapter passes one head_dim on, for keys and for values")
        if shape.out_dtype != shape.q_dtype or shape.q_dtype not in _DTYPES:
            return Unsupported(f"the adapter asks for 16 or 32 bits, not {shape.q_dtype} to {shape.out_dtype}")
        return next((Unsupported(reason) for reason in reasons), None)

    def numerics(self, shape: KernelShape) -> NumericsProfile:
        """Return the dtypes of the kernel's intermediate values."""
        return self.profile(shape)

    def prepare(self, batch: Batch) -> Prepared:
        """Return the batch; its metadata is built where a layer runs."""
        return _Run(self, batch, refusals(self, batch, detect()))


@dataclass(frozen=True)
class _Run:
    backend: KernelBackend
    batch: Batch
    declined: dict[int, str]

    def run(self, layer: int, out: torch.Tensor, lse: torch.Tensor | None) -> str:
        del lse  # promised by none
        if layer in self.declined:
            raise UnsupportedError(f"layer {layer}: {self.declined[layer]}")
        rows = self.batch.num_rows  # engines cut off what lies behind the last request
        layers = list(self.batch.layers)
        layers[layer] = replace(layers[layer], q=layers[layer].q[:rows])
        return self.backend.answer(replace(self.batch, layers=tuple(layers)), layer, out[:rows])


def attend_dense(batch: Batch, layer: int, out: torch.Tensor, attend: Attend) -> None:
    """Fill ``out`` request by request: ``attend`` gets each one's queries, and its keys and values in order.

    They are [tokens, heads, head_dim]; it returns the rows of the request.
    """
    cache = batch.caches[batch.layers[layer].cache]
    k, v = (view if batch.kv_layout == "NHD" else view.transpose(1, 2) for view in (cache.k, cache.v))
    tables = block_tables_for(batch, layer).long()
    start = 0
    for row, (q_len, kv_len) in enumerate(zip(batch.q_lens, batch.kv_lens, strict=True)):
        rows = slice(start, start + q_len)
        start += q_len
        tokens = torch.arange(kv_len)
        at = tables[row][tokens // batch.page_size], tokens % batch.page_size
        if q_len:
            out[rows] = attend(batch.layers[layer].q[rows], k[at], v[at])


def interpreted(shape: KernelShape) -> Iterator[str]:
    """Say what Triton's interpreter, or an adapter on a CPU, does not do."""
    if shape.q_dtype not in {"float16", "float32"}:
        yield f"Triton's interpreter multiplies float16 and float32, and no {shape.q_dtype}"
    if shape.kv_dtype != shape.q_dtype:
        yield f"the adapter asks for {shape.q_dtype} KV beside {shape.q_dtype} queries, not for {shape.kv_dtype}"


def rounded_p(shape: KernelShape) -> NumericsProfile:
    """Return the profile of kernels that round P to V's dtype, and keep parts over split keys in float32."""
    return NumericsProfile(p=shape.q_dtype, partials="float32")
