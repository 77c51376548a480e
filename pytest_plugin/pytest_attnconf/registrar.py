"""The registry that conftest files get: it remembers the names that it refused, and the run says so.

It is imported with the session, and not with the plugin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.backends.registry import Registry
from attnconf.errors import AttnconfError

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.backends.protocol import Backend
    from attnconf.platforms import Platform


class Registrar(Registry):
    """A registry that raises nothing: pytest takes an error of a conftest that it loads late for one of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals: list[AttnconfError] = []

    def register(self, name: str, factory: Callable[[Platform], Backend]) -> None:
        """Add a backend, or remember why not."""
        try:
            super().register(name, factory)
        except AttnconfError as error:
            self.refusals.append(error)

    def check(self) -> None:
        """Raise the first refusal, an ``AttnconfError``, if there is any."""
        if self.refusals:
            raise self.refusals[0]
