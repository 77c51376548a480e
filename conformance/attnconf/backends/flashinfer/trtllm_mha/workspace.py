"""The scratch memory of each kernel family, one for a device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from attnconf.backends.flashinfer.trtllm_mha.signature import parameters

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.backends.flashinfer.trtllm_mha.dispatch import Family

SEMAPHORE_BYTES = 8 * 1024 * 1024
"""What XQA and trtllm-gen's decode take from the head of a workspace; zero at every launch, the kernels leave it so."""
_COUNTER_ARGUMENT = "multi_ctas_kv_counter_buffer"
WORKSPACE_BYTES = SEMAPHORE_BYTES + 256 * 1024 * 1024
_CONTRACT_WORKSPACE_BYTES = 1024

_workspaces: dict[tuple[str, str], torch.Tensor] = {}


def workspace(device: torch.device, kernel: Family) -> torch.Tensor:
    """Return the workspace of ``kernel`` on ``device``: 1-D uint8, zero when first used, then kept.

    Each family has one of its own: trtllm-gen's context kernel puts softmax statistics, when an LSE is asked for,
    where its decode kernel of 0.6 keeps counters that must stay zero.
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
    trtllm_fmha_kernel_launcher.cu: the decode kernel of 0.6 keeps 8192 * 256 32-bit counters there, that of 0.7 in a
    buffer apart, and the context kernel has none. FMHA v2's generated launchers clear the counters that they use
    before every launch (jit/attention/fmha_v2/generator_utils.py), whatever its docstring asks of the first use.
    """
    counts = kernel == "trtllm-gen-decode" and _COUNTER_ARGUMENT not in parameters(function)
    return SEMAPHORE_BYTES if kernel == "xqa" or counts else 0
