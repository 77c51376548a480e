"""FlashInfer itself, imported when first needed."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
import warnings
from typing import TYPE_CHECKING, Any

import torch

from attnconf.backends.flashinfer.package import PACKAGE, REMEDY
from attnconf.errors import BackendUnavailableError

if TYPE_CHECKING:
    from types import ModuleType


def load(module: str, name: str) -> Any:  # noqa: ANN401 - a class, a function or a table of FlashInfer
    """Return ``module.name`` of the installed FlashInfer. Raises ``BackendUnavailableError`` with the remedy."""
    found = getattr(imported(module), name, None)
    if found is None:
        raise BackendUnavailableError(f"flashinfer {version()} has no {module}.{name}; remedy: {REMEDY}")
    return found


def imported(module: str) -> ModuleType:
    """Return a module of the installed FlashInfer. Raises ``BackendUnavailableError`` with the remedy."""
    try:
        with warnings.catch_warnings():
            # Deprecations inside FlashInfer and its dependencies do not concern this user.
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except Exception as error:
        # With a CPU-only torch and the CuTe DSL, 0.6.10.post1 looks for a GPU while another of its modules is
        # imported. Python keeps the modules that were complete by then; without a GPU only their names, signatures and
        # sources are needed.
        complete = sys.modules.get(module)
        if complete is not None and not isinstance(error, ImportError) and not torch.cuda.is_available():
            return complete
        reason = f"{type(error).__name__}: {error}"
        message = f"cannot import {module} of flashinfer {version()} ({reason}); remedy: {REMEDY}"
        raise BackendUnavailableError(message) from error


def version() -> str:
    """Return the installed version of flashinfer-python, or ``"unknown"``."""
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
