"""Import an engine's library, and check that its Triton kernels are compiled or interpreted as needed here."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch

from attnconf.errors import BackendUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

Library = TypeVar("Library")


def load_library(engine: str, compiled: Callable[[], Library], interpreted: Callable[[], Library]) -> Library:
    """Return what ``compiled`` imports with a GPU, or ``interpreted`` without one.

    Raises ``BackendUnavailableError`` naming ``engine`` for any exception of the import.
    """
    try:
        return compiled() if torch.cuda.is_available() else interpreted()
    except BackendUnavailableError:
        raise
    except Exception as error:
        raise BackendUnavailableError(f"{engine} does not load: {type(error).__name__}: {error}") from error


def check_kernel(engine: str, kernel: object, *, compiled: bool) -> None:
    """Raise ``BackendUnavailableError`` unless ``kernel`` is compiled, or interpreted if ``compiled`` is false."""
    from triton.runtime.interpreter import InterpretedFunction

    if isinstance(kernel, InterpretedFunction) != compiled:
        return
    raise BackendUnavailableError(
        "Triton would interpret its kernels; unset TRITON_INTERPRET"
        if compiled
        else f"{engine} was imported before in this process, and its kernels would be compiled for a GPU that is not"
        " there; ask it in a process of its own"
    )
