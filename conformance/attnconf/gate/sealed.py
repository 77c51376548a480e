"""Sealed files: values that carry a digest of their own content, so that an edit is noticed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field

from attnconf.errors import InvalidInputError
from attnconf.files import write_bytes
from attnconf.values import Value, digest

if TYPE_CHECKING:
    from collections.abc import Mapping

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class TamperedError(InvalidInputError):
    """A file whose content is not the one that its digest was made of."""


class Sealed(Value):
    """A file that carries the SHA-256 ``digest`` of the canonical JSON of everything else in it.

    The digest notices an edit. It does not say who wrote the file: that is what signatures are for. A value that has
    none, because it was just made or its file is older, gets it when it is written.
    """

    digest: Digest | None = None

    @property
    def identity(self) -> str:
        """The digest of the content, whether a file carried it or not."""
        return self.digest or seal(self.model_dump(mode="json", by_alias=True))

    def to_data(self) -> dict[str, Any]:
        """Return plain JSON data with every field, defaults too: the file is read by other programs."""
        return {**self.model_dump(mode="json", by_alias=True), "digest": self.identity}

    @classmethod
    def from_data(cls, data: object, source: str) -> Self:
        """Validate ``data``; raise ``InvalidInputError``, and ``TamperedError`` for a digest that does not fit."""
        value = super().from_data(data, source)
        if value.digest is not None and isinstance(data, dict) and value.digest != _seal_of_file(data, source):
            allowed = "the digest of its content: the file was edited after it was written"
            raise TamperedError(source, field="digest", given=value.digest, allowed=allowed)
        return value

    def renewed(self) -> Self:
        """Return the value under the digest of its content as it is written now: read from an older schema, it differs.

        Whether a file was edited is asked when it is read.
        """
        if self.digest is None:
            return self
        return self.model_copy(update={"digest": seal(self.model_dump(mode="json", by_alias=True))})

    def write(self, path: Path) -> None:
        """Write the value as JSON, in the place of what was there, and whole or not at all. Raises ``OSError``."""
        text = json.dumps(self.to_data(), indent=1, ensure_ascii=True, allow_nan=False)
        write_bytes(path, f"{text}\n".encode())


def seal(data: Mapping[str, Any]) -> str:
    """Return the digest of a file's ``data`` without the digest that stands in it."""
    return digest({name: value for name, value in data.items() if name != "digest"})


def _seal_of_file(data: Mapping[str, Any], source: str) -> str:
    try:
        return seal(data)
    except (ValueError, TypeError, RecursionError) as error:  # NaN, which JSON has not and Python reads
        raise InvalidInputError(source, given=str(error), allowed="a JSON document") from None
