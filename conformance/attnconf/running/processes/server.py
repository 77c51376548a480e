"""The server that backends' processes are forked from: it imports torch once for all of its caller's.

This module imports no torch itself, so a process can start its server first, and go on while that imports.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from contextlib import contextmanager
from multiprocessing import forkserver
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.context import ForkServerContext

_IMPORTED_ONCE = ["torch", "attnconf.running.processes.served", "attnconf.running.processes.backend_process"]
"""What every process needs, and what starts neither a thread nor CUDA when it is imported."""

_SAFE_PATH = "PYTHONSAFEPATH"
"""Without it the server would import modules of the folder in which it starts, such as a checkout's ``torch``."""

_hiding = threading.Lock()


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


@contextmanager
def without_main() -> Iterator[None]:
    """Hide the script of the caller, which a new process would otherwise run again: most have no guard against it."""
    with _hiding:
        script = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = script


def server_context() -> ForkServerContext:
    """Return the context of processes that are forked from the server."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED_ONCE)
    return context
