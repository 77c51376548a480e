"""What tests of several packages share."""

from __future__ import annotations

from functools import cache

import pytest

from attnconf.cli import main as cli


@pytest.fixture
def one_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every call of the command line use the same parser: making it is half of what a fuzzed call costs."""
    monkeypatch.setattr(cli, "_parser", cache(cli._parser))
