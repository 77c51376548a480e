"""Which of FlashInfer's TensorRT-LLM kernel families serves a mode on a machine, as serving engines choose it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from attnconf.cases.case import Mode

Family = Literal["trtllm-gen-decode", "trtllm-gen-context", "xqa", "fmha_v2"]
Generation = Literal["sm100", "sm90", "sm120"]

_GENERATIONS: dict[int, Generation] = {9: "sm90", 10: "sm100", 12: "sm120"}


def generation(sm: tuple[int, int] | None) -> Generation | None:
    """Return the GPU generation with kernels of its own, or None where there are none.

    Without a GPU the answer is that of the SM100 family: its calls are the ones that a contract reading executes.
    9.x other than 9.0 does not exist, and engines ask for 9.0 exactly.
    """
    if sm is None:
        return "sm100"
    if sm[0] == 9 and sm[1] != 0:  # noqa: PLR2004 - Hopper's own number
        return None
    return _GENERATIONS.get(sm[0])


def family(mode: Mode, machine: Generation) -> Family:
    """Return the kernel family that runs ``mode`` on ``machine``.

    Decode and verify, whose requests all bring the same number of query tokens, take the decode kernels; extend and
    mixed batches take the prefill kernels.
    """
    decodes = mode in {"decode", "verify"}
    if machine == "sm100":
        return "trtllm-gen-decode" if decodes else "trtllm-gen-context"
    return "xqa" if decodes else "fmha_v2"


FUNCTIONS: dict[Family, tuple[str, str]] = {
    "trtllm-gen-decode": ("flashinfer.decode", "trtllm_batch_decode_with_kv_cache"),
    "trtllm-gen-context": ("flashinfer.prefill", "trtllm_batch_context_with_kv_cache"),
    "xqa": ("flashinfer.decode", "trtllm_batch_decode_with_kv_cache"),
    "fmha_v2": ("flashinfer.prefill", "trtllm_fmha_v2_prefill"),
}
"""The module and the function that each family is called through."""
