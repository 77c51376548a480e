"""The few exceptions that a user of attnconf meets.

Each carries one finished sentence. The command line and the plugin print that sentence and exit with a
non-zero status; a traceback is only ever shown for a bug in attnconf itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.escape import terminal
from attnconf.wording import clipped, cut

if TYPE_CHECKING:
    from pydantic import ValidationError

_LONGEST_QUOTE = 80
"""Characters of a user's own value that a sentence quotes."""

_LONGEST_ERROR = 300
"""Characters of another library's error that a sentence quotes."""


class AttnconfError(Exception):
    """Anything that attnconf can explain to its user in one sentence."""


class InvalidInputError(AttnconfError):
    """A file, an option or a value that attnconf cannot accept.

    ``source`` names where it came from (a path, an option), ``field`` the place inside it, ``given`` what stood
    there and ``allowed`` what may stand there. Parts that do not apply are empty.
    """

    def __init__(self, source: str, *, field: str = "", given: str = "", allowed: str = "") -> None:
        self.source = source
        self.field = field
        self.given = given
        self.allowed = allowed
        place = f"{source}: {field}" if field else source
        got = f" is {given}" if given and field else (f": {given}" if given else "")
        super().__init__(f"{place}{got}" + (f"; allowed: {allowed}" if allowed else ""))


class UnknownBackendError(InvalidInputError):
    """A backend name that nothing registered."""


class BackendUnavailableError(AttnconfError):
    """A registered backend that cannot work here: a library or a device is missing."""


class UnbuiltError(AttnconfError):
    """A call needs a kernel module that is not built, and nothing may be compiled here."""


class UnsupportedError(AttnconfError):
    """A backend refuses a shape or a batch that it does not support, before launch and with the reason."""


def from_validation_error(error: ValidationError, source: str) -> InvalidInputError:
    """Turn pydantic's first complaint into one sentence about ``source``."""
    first = error.errors(include_url=False)[0]
    return InvalidInputError(
        source,
        field=clipped(terminal(".".join(str(part)[: _LONGEST_QUOTE + 1] for part in first["loc"])), _LONGEST_QUOTE),
        given=clipped(shown(first["input"]), _LONGEST_QUOTE),
        allowed=terminal(first["msg"].removeprefix("Value error, ")),
    )


def shown(value: object) -> str:
    """Return ``value`` as ASCII text, or what it is where Python will not show it."""
    try:
        return ascii(value)
    except (RecursionError, ValueError):  # TOML's 0xff may be a number of more than 4,300 decimal digits
        return f"a {type(value).__name__} too long or too deep to be shown"


def one_line(error: BaseException) -> str:
    """Return the type and the text of an error that somebody else raised, on one line of 300 characters or less."""
    return cut(f"{type(error).__name__}: {error}", _LONGEST_ERROR)
