"""What workers know of backends goes to the controller at their end, which would start a process for each to ask again.

And the server of these processes is started first: it imports torch while a worker collects its tests, and while the
controller of a machine with a GPU does the same to look at it.
"""

from __future__ import annotations

import pickle
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from pytest_attnconf.options import ISOLATE
from pytest_attnconf.state import KEY

if TYPE_CHECKING:
    from pytest_attnconf.state import State

KNOWN = "attnconf_known"
"""The name of this knowledge in what xdist brings from a worker to the controller."""


def start_early(state: State) -> None:
    """Start the server of backends' processes, if this process will most likely need it."""
    if not state.is_asked_for or ISOLATE[state.option("isolate")] is False:
        return
    from attnconf.platforms import has_driver

    if state.is_worker or has_driver():
        from attnconf.running.processes.server import start_server

        with suppress(OSError):  # a backend that is asked later says so
            start_server()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Put what a worker knows where xdist takes it along."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    made = session.config.stash[KEY].__dict__.get("session")
    if output is not None and made is not None:
        output[KNOWN] = pickle.dumps(made.known)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:  # noqa: ANN401 - xdist may not be installed
    """Take what a worker that has ended knew."""
    data = getattr(node, "workeroutput", {}).get(KNOWN)
    if data is None:
        return
    from attnconf.running.processes.wire import UnreadableError, read

    with suppress(UnreadableError):  # then the controller asks itself
        node.config.stash[KEY].session.adopt(read(data))
