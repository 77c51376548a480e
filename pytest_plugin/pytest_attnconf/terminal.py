"""The terminal: every line and every refusal of the plugin reaches pytest through here, escaped for its sink.

attnconf is imported only once there is something to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

_SILENT = -2
"""The verbosity of ``-qq``, at which pytest says no more than what failed."""


def is_silent(config: pytest.Config) -> bool:
    """Whether the user asked for nothing but failures (``-qq``)."""
    return config.get_verbosity() <= _SILENT


def shown(line: str) -> str:
    """Return ``line`` for pytest to write: it stays one, whatever stands in it."""
    from attnconf.escape import terminal

    return terminal(line)


def say(config: pytest.Config, lines: Iterable[str]) -> None:
    """Write ``lines``, if there is a terminal and the user wants to read."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and not is_silent(config):
        for line in lines:
            reporter.write_line(shown(line))


def complain(config: pytest.Config, sentence: str) -> None:
    """Write what is not met, also where the user wants to read nothing else."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.write_line(shown(f"NOT MET: {sentence}"), red=True)


def usage_error(error: object) -> pytest.UsageError:
    """Return the error that ends a run with status 4 and one sentence."""
    return pytest.UsageError(shown(str(error)))


def stop(sentence: str, status: int) -> NoReturn:
    """End the run with ``status`` and one sentence."""
    pytest.exit(shown(sentence), returncode=status)


def fail(sentence: str) -> NoReturn:
    """Fail the test that is set up, with one sentence and no traceback."""
    pytest.fail(shown(sentence), pytrace=False)
