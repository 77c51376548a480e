"""The names of the modules that FlashInfer compiles, from its own naming functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from attnconf.backends.flashinfer_fa import library
from attnconf.backends.flashinfer_fa.variant import Template, Variant, variant_of_shape

if TYPE_CHECKING:
    from attnconf.shape import KernelShape

_NO_POSITION_ENCODING = 0


def modules(shape: KernelShape, template: Template) -> tuple[str, ...]:
    """Return the URIs of the modules that ``shape`` needs: one, which serves every mode, page size and group size.

    Imports FlashInfer, but needs no GPU. Raises ``BackendUnavailableError`` where it or its naming functions lack.
    """
    return (module_uri(variant_of_shape(template, shape)),)


def module_uri(variant: Variant) -> str:
    """Return the name under which FlashInfer builds and caches ``variant``. Raises ``BackendUnavailableError``."""
    q_dtype, kv_dtype = getattr(torch, variant.q_dtype), getattr(torch, variant.kv_dtype)
    dtypes = (q_dtype, kv_dtype, q_dtype, torch.int32)
    common = (variant.template, *dtypes, variant.head_dim, variant.head_dim, _NO_POSITION_ENCODING, variant.windowed)
    if variant.sinks:
        return str(library.load(library.NAMES, "get_batch_prefill_attention_sink_uri")(*common))
    name = library.load(library.NAMES, "get_batch_prefill_uri")(*common, variant.soft_cap, False)  # noqa: FBT003 - FlashInfer's own order
    stride_name = library.optional(library.NAMES, "_get_batch_prefill_module_uri")
    if stride_name is not None and variant.template == "fa2":
        # 0.7.2 splits fa2's module by the strides of K and V; a batch that is not refused has equal ones.
        name = stride_name(name, "fa2", "equal", "full")
    return str(name)


def sink_arguments(variant: Variant) -> dict[str, Any]:
    """Return the constructor's arguments that make a wrapper build and load the sink variant.

    The same as FlashInfer's BatchAttentionWithAttentionSinkWrapper gives, but for the name: that wrapper's leaves out
    head_dim and the KV dtype, so that two variants of one process would share a module.
    """
    q_dtype, kv_dtype = getattr(torch, variant.q_dtype), getattr(torch, variant.kv_dtype)
    declaration = library.load(library.VARIANTS, "attention_sink_decl")[variant.template]
    return {
        "jit_args": [
            module_uri(variant),
            q_dtype,
            kv_dtype,
            q_dtype,
            torch.int32,
            variant.head_dim,
            variant.head_dim,
            ["sink"],
            ["float"],
            ["sm_scale"],
            ["double"],
            "AttentionSink",
            declaration,
        ],
        "jit_kwargs": {
            "use_sliding_window": variant.windowed,
            "use_fp16_qk_reduction": False,
            "pos_encoding_mode": _NO_POSITION_ENCODING,
        },
    }
