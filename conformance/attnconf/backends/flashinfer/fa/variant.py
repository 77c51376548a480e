"""Variant: the compiled kernel for one layer. FlashInfer builds one module per variant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from attnconf.cases.shape import batch_shape

if TYPE_CHECKING:
    from attnconf.cases.inputs.batch import Batch
    from attnconf.cases.shape import KernelShape

Template = Literal["fa2", "fa3"]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The compile-time properties: template, dtypes (torch's names), head_dim, and the features that are on.

    Heads, group size, page size, layout and lengths are arguments of the compiled kernel.
    """

    template: Template
    q_dtype: str
    kv_dtype: str
    out_dtype: str
    head_dim: int
    head_dim_v: int
    windowed: bool
    soft_cap: bool
    sinks: bool
    spans: bool = False
    chunked: bool = False
    tree: bool = False
    bidirectional: bool = False
    head_scales: bool = False


def variant_of_shape(template: Template, shape: KernelShape) -> Variant:
    """Return the variant that runs ``shape``."""
    return Variant(
        template=template,
        q_dtype=shape.q_dtype,
        kv_dtype=shape.kv_dtype,
        out_dtype=shape.out_dtype,
        head_dim=shape.head_dim,
        head_dim_v=shape.head_dim_v,
        windowed=shape.windowed,
        soft_cap=shape.soft_cap,
        sinks=shape.sinks,
        spans=shape.spans,
        chunked=shape.chunked,
        tree=shape.tree,
        bidirectional=shape.bidirectional,
        head_scales=shape.head_scales,
    )


def variant_of_layer(template: Template, batch: Batch, layer: int) -> Variant:
    """Return the variant that runs one layer of ``batch``; a redirected layer reads its owner's cache."""
    return variant_of_shape(template, batch_shape(batch, layer))
