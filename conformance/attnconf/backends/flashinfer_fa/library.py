"""FlashInfer itself: imported when first needed, its calls bound before they are made, and its workspace."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import warnings
from typing import TYPE_CHECKING, Any

import torch

from attnconf.backends.flashinfer_fa.capability import FLOOR, PACKAGE
from attnconf.errors import BackendUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from attnconf.batch import Batch

PREFILL = "flashinfer.prefill"
DECODE = "flashinfer.decode"
NAMES = "flashinfer.jit.attention.modules"
VARIANTS = "flashinfer.jit.attention.variants"

REMEDY = f"pip install '{PACKAGE}>={FLOOR}'"
_LEAST_WORKSPACE = 128 * 1024 * 1024
_LONG_TILE, _LARGE_HEAD_TILE, _LARGE_HEAD = 128, 64, 256
_CTAS_PER_SM = 2

_workspaces: dict[str, torch.Tensor] = {}


def load(module: str, name: str) -> Any:  # noqa: ANN401 - a class, a function or a table of FlashInfer
    """Return ``module.name`` of the installed FlashInfer. Raises ``BackendUnavailableError`` with the remedy."""
    try:
        with warnings.catch_warnings():
            # Deprecations inside FlashInfer and its dependencies are not this user's business.
            warnings.simplefilter("ignore")
            return getattr(_imported(module), name)
    except AttributeError as error:
        message = f"flashinfer {version()} has no {module}.{name}; remedy: {REMEDY}"
        raise BackendUnavailableError(message) from error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        message = f"cannot import {module} of flashinfer {version()} ({reason}); remedy: {REMEDY}"
        raise BackendUnavailableError(message) from error


def _imported(module: str) -> Any:  # noqa: ANN401 - a module of FlashInfer
    try:
        return importlib.import_module(module)
    except AssertionError:
        # Beside a CPU-only torch, 0.6.10.post1 asks for a GPU while one of its modules is first imported. Python keeps
        # the modules that were complete by then, and without a GPU only names and signatures are read.
        if torch.cuda.is_available():
            raise
        return importlib.import_module(module)


def optional(module: str, name: str) -> Any:  # noqa: ANN401 - as above
    """Return ``module.name``, or None in a FlashInfer whose module does not have it."""
    return getattr(importlib.import_module(module), name, None)


def version() -> str:
    """Return the installed version of flashinfer-python, or ``"unknown"``."""
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def call(function: Callable[..., Any], arguments: Mapping[str, Any], extra: tuple[Any, ...] = ()) -> Any:  # noqa: ANN401 - what FlashInfer returns
    """Bind the arguments, then call; ``extra`` goes through the function's ``*args``, behind q and the cache.

    Raises ``BackendUnavailableError`` when the installed function does not take the call.
    """
    leading = tuple(arguments[name] for name in ("q", "paged_kv_cache")) if extra else ()
    named = {name: value for name, value in arguments.items() if not extra or name not in {"q", "paged_kv_cache"}}
    try:
        inspect.signature(function).bind(*leading, *extra, **named)
    except TypeError as error:
        message = f"{function.__qualname__} of flashinfer {version()} does not take the adapter's call: {error}"
        raise BackendUnavailableError(message) from error
    return function(*leading, *extra, **named)


def workspace(batch: Batch) -> torch.Tensor:
    """Return the float workspace for ``batch``: 1-D uint8, kept per device and grown when a batch needs more.

    Kernels of one stream take turns in it. Nothing in it outlives a run.
    """
    key = str(batch.device)
    needed = workspace_bytes(batch, _multiprocessors(batch.device))
    if key not in _workspaces or _workspaces[key].numel() < needed:
        _workspaces[key] = torch.zeros(needed, dtype=torch.uint8, device=batch.device)
    return _workspaces[key]


def workspace_bytes(batch: Batch, multiprocessors: int) -> int:
    """Return how many bytes the split-KV partial results of ``batch`` take at most.

    Source: PrefillPlan in attention/scheduler.cuh. It reserves, for each query head, float32 rows of head_dim values
    and one log-sum-exp for at most ``2 * multiprocessors / num_kv_heads`` tiles of 128 rows (64 from head_dim 256 on).
    """
    most = _LEAST_WORKSPACE
    for layer in batch.layers:
        geometry = layer.geometry
        tile = _LARGE_HEAD_TILE if geometry.head_dim >= _LARGE_HEAD else _LONG_TILE
        tiles = _CTAS_PER_SM * multiprocessors * geometry.group_size
        most = max(most, tiles * tile * 4 * (geometry.head_dim + 1) + 1024)
    return most


def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
