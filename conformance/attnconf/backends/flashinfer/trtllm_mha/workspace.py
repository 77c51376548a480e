"""The scratch memory of each kernel family: one workspace per device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from attnconf.backends.flashinfer.trtllm_mha.signature import parameters

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.backends.flashinfer.trtllm_mha.dispatch import Family

SEMAPHORE_BYTES = 8 * 1024 * 1024
"""The part of a workspace for counters of XQA and trtllm-gen's decode: zero before and after every launch."""
_COUNTER_ARGUMENT = "multi_ctas_kv_counter_buffer"
WORKSPACE_BYTES = SEMAPHORE_BYTES + 256 * 1024 * 1024
_CONTRACT_WORKSPACE_BYTES = 1024

_workspaces: dict[tuple[str, str], torch.Tensor] = {}


def workspace(device: torch.device, kernel: Family) -> torch.Tensor:
    """Return the workspace of ``kernel`` on ``device``: 1-D uint8, zero when first used, then kept.

    Each family has its own: with an LSE, trtllm-gen's context kernel puts softmax statistics where its decode kernel of
    0.6 has counters that must stay zero.
    """
    if device.type != "cuda":
        return torch.zeros(_CONTRACT_WORKSPACE_BYTES, dtype=torch.uint8, device=device)
    key = (str(device), kernel)
    if key not in _workspaces:
        _workspaces[key] = torch.zeros(WORKSPACE_BYTES, dtype=torch.uint8, device=device)
    return _workspaces[key]


def zero_bytes(kernel: Family, function: Callable[..., Any]) -> int:
    """Return how many bytes at the head of the workspace of ``kernel`` must be zero at every launch.

    Sources: decode.py (XQA's semaphores are the first 8 MiB) and xqa/mha*.cu (``atom.inc`` wraps them back to zero);
    trtllm_fmha_kernel_launcher.cu: the decode kernel has 8192 * 256 32-bit counters there, from 0.6.15 on in a separate
    buffer, and the context kernel has none. FMHA v2's generated launchers clear their counters before
    every launch (jit/attention/fmha_v2/generator_utils.py), whatever its docstring says about the first use.
    """
    counts = kernel == "trtllm-gen-decode" and _COUNTER_ARGUMENT not in parameters(function)
    return SEMAPHORE_BYTES if kernel == "xqa" or counts else 0
