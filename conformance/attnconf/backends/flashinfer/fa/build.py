"""FlashInfer's specifications of the modules, with the names under which its wrappers build and load them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from attnconf.backends.flashinfer import library
from attnconf.backends.flashinfer.fa.modules import STRIDE_SUFFIX, read, sink_name
from attnconf.cases.inputs.stored import stored_dtype
from attnconf.errors import InvalidInputError

if TYPE_CHECKING:
    from attnconf.backends.flashinfer.fa.variant import Variant

MODULES = "flashinfer.jit.attention.modules"
VARIANTS = "flashinfer.jit.attention.variants"
_NO_POSITION_ENCODING = 0


def jit_spec(name: str) -> Any:  # noqa: ANN401 - FlashInfer's JitSpec
    """Return FlashInfer's specification of the module ``name``. Raises ``InvalidInputError`` for another name.

    It is the specification of ``get_batch_prefill_module`` in flashinfer/prefill.py (another one for fa2 since 0.7.0),
    or with sinks of ``get_customize_batch_prefill_module``: equal sources make FlashInfer load the built library.
    """
    variant = read(name)
    if variant is None:
        raise InvalidInputError("kernel module", given=ascii(name), allowed="a name of a batch prefill module")
    if variant.sinks:
        arguments = sink_arguments(variant)
        generate = library.load(MODULES, "gen_customize_batch_prefill_module")
        return generate(variant.template, *arguments["jit_args"], **arguments["jit_kwargs"])
    primary = name.endswith(STRIDE_SUFFIX)
    generate = library.load(MODULES, "_gen_batch_prefill_primary_module" if primary else "gen_batch_prefill_module")
    return generate(
        variant.template,
        *_types(variant),
        _NO_POSITION_ENCODING,
        variant.windowed,
        variant.soft_cap,
        False,  # noqa: FBT003 - FlashInfer's own order: no 16-bit reduction of q k
    )


def sink_arguments(variant: Variant) -> dict[str, Any]:
    """Return the constructor's arguments that make a wrapper build and load the sink variant.

    They equal those of FlashInfer's BatchAttentionWithAttentionSinkWrapper but for the module's name.
    """
    return {
        "jit_args": [
            sink_name(variant),
            *_types(variant),
            ["sink"],
            ["float"],
            ["sm_scale"],
            ["double"],
            "AttentionSink",
            library.load(VARIANTS, "attention_sink_decl")[variant.template],
        ],
        "jit_kwargs": {
            "use_sliding_window": variant.windowed,
            "use_fp16_qk_reduction": False,
            "pos_encoding_mode": _NO_POSITION_ENCODING,
        },
    }


def _types(variant: Variant) -> tuple[Any, ...]:
    """Return the dtypes of q, cache, output and indices, and the head_dim of keys and of values."""
    q_dtype, kv_dtype, out_dtype = map(stored_dtype, (variant.q_dtype, variant.kv_dtype, variant.out_dtype))
    return q_dtype, kv_dtype, out_dtype, torch.int32, variant.head_dim, variant.head_dim
