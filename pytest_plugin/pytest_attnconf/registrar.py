"""The registry that conftest files get: a name that cannot be had ends the run with one sentence.

It is imported with the session, and not with the plugin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from attnconf.backends.registry import Registry
from attnconf.errors import AttnconfError

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.backends.protocol import Backend
    from attnconf.platforms import Platform


class Registrar(Registry):
    """A registry whose refusals are pytest's usage errors: a conftest that is loaded late would else crash pytest."""

    def register(self, name: str, factory: Callable[[Platform], Backend]) -> None:
        """Add a backend. Raises ``UsageError`` for a name that somebody has."""
        try:
            super().register(name, factory)
        except AttnconfError as error:
            raise pytest.UsageError(str(error)) from None
