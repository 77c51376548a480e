"""FlashInfer itself: imported when first needed, and its workspaces."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
import warnings
from typing import TYPE_CHECKING, Any

import torch

from attnconf.backends.trtllm_mha.capability import FLOOR, PACKAGE
from attnconf.backends.trtllm_mha.signature import parameters
from attnconf.errors import BackendUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from attnconf.backends.trtllm_mha.dispatch import Family

REMEDY = f"pip install '{PACKAGE}>={FLOOR}'"
SEMAPHORE_BYTES = 8 * 1024 * 1024
"""What XQA and trtllm-gen's decode take from the head of a workspace; zero at every launch, the kernels leave it so."""
_COUNTER_ARGUMENT = "multi_ctas_kv_counter_buffer"
WORKSPACE_BYTES = SEMAPHORE_BYTES + 256 * 1024 * 1024
_CONTRACT_WORKSPACE_BYTES = 1024

_workspaces: dict[tuple[str, str], torch.Tensor] = {}


def load(module: str, function: str) -> Callable[..., Any]:
    """Return a function of the installed FlashInfer. Raises ``BackendUnavailableError`` with the remedy."""
    found: Callable[..., Any] | None = getattr(imported(module), function, None)
    if found is None:
        message = f"flashinfer {version()} has no {module}.{function}; remedy: {REMEDY}"
        raise BackendUnavailableError(message)
    return found


def imported(module: str) -> ModuleType:
    """Return a module of the installed FlashInfer. Raises ``BackendUnavailableError`` with the remedy."""
    try:
        with warnings.catch_warnings():
            # Deprecations inside FlashInfer and its dependencies are not this user's business.
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except Exception as error:
        # Beside a CPU-only torch and the CuTe DSL, 0.6.10.post1 asks for a GPU while another of its modules is
        # imported. Python keeps the modules that were complete by then, and without a GPU only signatures are read.
        complete = sys.modules.get(module)
        if complete is not None and not torch.cuda.is_available():
            return complete
        reason = f"{type(error).__name__}: {error}"
        message = f"trtllm_mha cannot import {module} of flashinfer {version()} ({reason}); remedy: {REMEDY}"
        raise BackendUnavailableError(message) from error


def version() -> str:
    """Return the installed version of flashinfer-python, or ``"unknown"``."""
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


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
