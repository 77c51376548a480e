"""The distribution vllm: which versions the adapter was read and tried against, and what to do without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.errors import BackendUnavailableError

if TYPE_CHECKING:
    from attnconf.platforms import Platform

PACKAGE = "vllm"
TESTED = ("0.33.0",)
"""The releases whose classes the adapter constructs: an engine's inside is no interface, and any other may differ."""
REMEDY = "make engines installs it in an environment of its own"


def why_not(platform: Platform) -> str | None:
    """Return why the vLLM of ``platform`` cannot be asked, or None. Reads metadata alone."""
    version = platform.packages.get(PACKAGE)
    if version is None:
        return f"vllm is not installed; {REMEDY}"
    if version not in TESTED:
        return f"vllm {version} is not among the releases that the adapter was tried with ({', '.join(TESTED)})"
    return None


def require(name: str, platform: Platform) -> None:
    """Raise ``BackendUnavailableError`` for backend ``name`` where ``why_not`` has a reason."""
    reason = why_not(platform)
    if reason is not None:
        message = f"backend {name} cannot run here: {reason}"
        raise BackendUnavailableError(message)
