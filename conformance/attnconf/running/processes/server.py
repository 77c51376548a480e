"""The server that backends' processes are forked from: it imports torch once for all of its caller's.

This module imports no torch itself, so a process can start its server first, and go on while that imports.
"""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing import forkserver
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext

_IMPORTED_ONCE = ["torch", "attnconf.running.processes.served", "attnconf.running.processes.backend_process"]
"""What every process needs, and what starts neither a thread nor CUDA when it is imported."""

_SAFE_PATH = "PYTHONSAFEPATH"
"""Without it the server would import modules of the folder in which it starts, such as a checkout's ``torch``."""


def start_server() -> None:
    """Start the server that processes are forked from, if it does not run; does not wait for its imports."""
    server_context()
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = before


def server_context() -> ForkServerContext:
    """Return the context of processes that are forked from the server."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED_ONCE)
    return context
