"""The ending of a run with a receipt: red from the start on, and never 0 before the receipt says so.

A run can end in any way: an error of the command line, a broken conftest, a signal, ``os._exit`` in a backend. None of
them leaves an older receipt behind that could be taken for its own: that is replaced before anything else happens. And
none that Python notices ends with 0. What ends the process below Python, as ``exit(0)`` in C does, keeps its status:
then the receipt alone is red. A value that pytest's own options cannot have, and a plugin that is named before this
one and breaks, end pytest with an error before it knows of a receipt, which stays what it was.
"""

from __future__ import annotations

import contextlib
import os
import platform as python_platform
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_attnconf.options import flag

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    Hook = Generator[None, object, object]

WORKER = "PYTEST_XDIST_WORKER"
_NAME = "attnconf-ending"
_RUNS_NOTHING = ("collectonly", "help", "version", "markers", "showfixtures", "show_fixtures_per_test", "cacheshow")
"""Options with which pytest runs no test."""


class Ending:
    """The hooks that hold a run to its receipt: ``owed`` is the exit status which it has not earned to be 0."""

    def __init__(self, config: pytest.Config, path: Path) -> None:
        self.config = config
        self.path = path
        self.owed = int(pytest.ExitCode.INTERRUPTED)

    @pytest.hookimpl(wrapper=True)
    def pytest_load_initial_conftests(self) -> Hook:
        """Take a conftest that ends the process for a broken one."""
        with self._guarded():
            try:
                return (yield)
            except SystemExit as error:
                message = f"a conftest ended the process while it was imported: SystemExit: {error.code}"
                raise pytest.UsageError(message) from None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_cmdline_main(self) -> Hook:
        """Return what is owed in the place of 0; without a test to run there is no receipt, and nothing owed."""
        status: object
        with self._guarded():
            try:
                status = yield
            except SystemExit as error:
                if error.code:
                    raise
                status = 0
        if any(getattr(self.config.option, name, False) for name in _RUNS_NOTHING):
            self.path.unlink(missing_ok=True)
            return status
        return status or self.owed

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Let ``os._exit(0)`` of this process, not of its children, end with what is owed."""
        leave, process = os._exit, os.getpid()

        def leave_with_what_is_owed(status: int) -> None:
            if status == 0 and self.owed and os.getpid() == process:
                status = self.owed
                self._say(f"attnconf: os._exit(0) ended the run before its end: exit status {status}")
            leave(status)

        os._exit = leave_with_what_is_owed  # type: ignore[assignment]
        try:
            yield
        finally:
            os._exit = leave

    def _say(self, line: str) -> None:
        with contextlib.suppress(Exception):  # whatever state pytest is in, the status counts
            capture = self.config.pluginmanager.get_plugin("capturemanager")
            if capture is not None:
                capture.suspend_global_capture(in_=True)
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()


def begin_as_given(config: pytest.Config) -> None:
    """Begin the receipt before pytest reads its command line, which may be wrong; xdist's workers have none."""
    arguments = [*_of_ini_file(config), *shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))]
    given = _receipt_in([*arguments, *config.invocation_params.args])
    if given and WORKER not in os.environ:
        begin(config, given)


def begin(config: pytest.Config, given: str) -> None:
    """Write a receipt that says that the run has begun, once, in the place of what was there.

    A folder, a pipe and a device are left alone. Raises ``pytest.UsageError`` for a file that cannot be written.
    """
    path = config.invocation_params.dir / given
    if config.pluginmanager.has_plugin(_NAME):
        return
    try:
        if path.exists() and not path.is_file():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        # first of all: whatever stops the import of the library leaves no older receipt, either
        Path(os.path.realpath(path)).unlink(missing_ok=True)
        from attnconf.gate.receipt import begun_receipt

        begun_receipt(datetime.now(UTC).isoformat(), python_platform.python_version()).write(path)
    except OSError as error:
        message = f"{flag('receipt')}: {given} cannot be written ({error.strerror}); allowed: a file to write"
        raise pytest.UsageError(message) from None
    config.pluginmanager.register(Ending(config, path), _NAME)


def finish(config: pytest.Config, status: int) -> None:
    """Let the run end with ``status``, as its receipt says."""
    ending: Ending | None = config.pluginmanager.get_plugin(_NAME)
    if ending is not None:
        ending.owed = status


def _of_ini_file(config: pytest.Config) -> list[str]:
    try:
        return list(config.getini("addopts"))
    except (AttributeError, KeyError, ValueError):  # no ini file is read yet: pytest.main was given this plugin itself
        return []


def _receipt_in(arguments: Sequence[str]) -> str:
    """Return the last value of the option among ``arguments``, or an empty text."""
    found = ""
    for argument, following in zip(arguments, [*arguments[1:], "-"], strict=True):
        if argument == "--":
            break
        name, is_joined, value = argument.partition("=")
        if name == flag("receipt"):
            found = value if is_joined else following
    return "" if found.startswith("-") else found
