"""FlashInfer's specifications of the modules, with the names under which its own calls build and load them."""

from __future__ import annotations

from typing import Any

from attnconf.backends.flashinfer import library
from attnconf.backends.flashinfer.trtllm_mha.variants import FmhaV2, read
from attnconf.errors import InvalidInputError


def jit_spec(name: str) -> Any:  # noqa: ANN401 - FlashInfer's JitSpec
    """Return FlashInfer's specification of the module ``name``. Raises ``InvalidInputError`` for another name."""
    import torch

    found = read(name)
    if found is None:
        raise InvalidInputError("kernel module", given=ascii(name), allowed="a name of an XQA or FMHA v2 module")
    if isinstance(found, FmhaV2):
        generate = library.load("flashinfer.jit.attention.modules", "gen_fmha_v2_module")
        out_dtype = None if found.out_dtype == found.dtype else getattr(torch, found.out_dtype)
        return generate(found.input_layout, getattr(torch, found.dtype), out_dtype)
    generate = library.load("flashinfer.jit.xqa", "gen_xqa_module")
    q_dtype, kv_dtype, out_dtype = (getattr(torch, one) for one in (found.q_dtype, found.kv_dtype, found.out_dtype))
    return generate(
        q_dtype, kv_dtype, found.page_size, found.head_dim, found.group_size, found.windowed, out_dtype, found.q_len
    )
