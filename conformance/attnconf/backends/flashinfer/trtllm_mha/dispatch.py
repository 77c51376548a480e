"""Choose FlashInfer's TensorRT-LLM kernel family for a mode on a machine, as serving engines do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from attnconf.cases.case import Mode

Family = Literal["trtllm-gen-decode", "trtllm-gen-context", "xqa", "fmha_v2"]
Generation = Literal["sm100", "sm90", "sm120"]

FUNCTIONS: dict[Family, tuple[str, str]] = {
    "trtllm-gen-decode": ("flashinfer.decode", "trtllm_batch_decode_with_kv_cache"),
    "trtllm-gen-context": ("flashinfer.prefill", "trtllm_batch_context_with_kv_cache"),
    "xqa": ("flashinfer.decode", "trtllm_batch_decode_with_kv_cache"),
    "fmha_v2": ("flashinfer.prefill", "trtllm_fmha_v2_prefill"),
}
"""The module and the function through which each family is called."""

SCALE_TOKENS = 4
"""The tokens whose scales of blocks lie side by side among those of values that trtllm-gen reads."""

_GENERATIONS: dict[int, Generation] = {9: "sm90", 10: "sm100", 12: "sm120"}


def generation(sm: tuple[int, int] | None) -> Generation | None:
    """Return the GPU generation that has kernels, or None for any other GPU.

    Without a GPU it is ``sm100``, whose calls the documented contract executes. Of 9.x only 9.0 counts, as in engines;
    no other exists.
    """
    if sm is None:
        return "sm100"
    if sm[0] == 9 and sm[1] != 0:  # noqa: PLR2004 - Hopper's own number
        return None
    return _GENERATIONS.get(sm[0])


def family(mode: Mode, machine: Generation) -> Family:
    """Return the kernel family that runs ``mode`` on ``machine``.

    Decode and verify, in which all requests have the same number of query tokens, use the decode kernels. Extend and
    mixed batches use the prefill kernels.
    """
    decodes = mode in {"decode", "verify"}
    if machine == "sm100":
        return "trtllm-gen-decode" if decodes else "trtllm-gen-context"
    return "xqa" if decodes else "fmha_v2"
