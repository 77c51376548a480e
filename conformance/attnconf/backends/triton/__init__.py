"""Our own paged attention in Triton: compiled on a GPU, interpreted on a CPU. Importing this imports no triton."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnconf.backends.protocol import Backend
    from attnconf.platforms import Platform


def make(platform: Platform) -> Backend:
    """Return the backend for ``platform``. Raises ``BackendUnavailableError`` with the remedy without triton."""
    from attnconf.backends.triton.backend import TritonBackend, require_triton

    require_triton()
    return TritonBackend(platform)
