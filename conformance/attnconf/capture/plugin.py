"""Plugins: what engines call in each of their processes. Off, each reads one environment variable and returns."""

from __future__ import annotations

import os

_VARIABLE = "ATTNCONF_CAPTURE"
"""As in ``switch.py``, which is not imported for it."""


def vllm() -> None:
    """Capture this process of vLLM, if ``attnconf capture`` started it (entry point ``vllm.general_plugins``)."""
    _start("vllm")


def sglang() -> None:
    """Capture this process of sglang, if ``attnconf capture`` started it."""
    _start("sglang")


def _start(engine: str) -> None:
    if os.environ.get(_VARIABLE):
        from attnconf.capture.switch import start_if_asked

        start_if_asked(engine)
