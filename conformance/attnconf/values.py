"""Values that are files: frozen pydantic models with one canonical JSON form and a digest of it."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError

from attnconf.errors import InvalidInputError, from_validation_error
from attnconf.escape import terminal
from attnconf.files import read_text
from attnconf.wording import clipped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from pydantic_core import CoreSchema

MOST_VALUES = 600_000
"""The values of a JSON file; the receipt of a run of every backend has 60,000. A parsed one takes some 100 bytes."""

MOST_TOML = 256_000
"""The characters of a TOML file, which is written by hand: those that are shipped have 7,000."""


def canonical_json(data: object) -> str:
    """Return the one JSON text of ``data``: sorted keys, no spaces, ASCII, no NaN."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(data: object) -> str:
    """Return the SHA-256 hex digest of the canonical JSON of ``data``."""
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()


def _fail_fast(schema: object) -> None:
    if isinstance(schema, dict):
        if schema.get("type") in {"list", "set", "frozenset", "tuple"}:
            schema["fail_fast"] = True
        for part in schema.values():
            _fail_fast(part)
    elif isinstance(schema, list | tuple):
        for part in schema:
            _fail_fast(part)


class Value(BaseModel):
    """A frozen value: equal by content, unknown fields refused, JSON in and out."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True)

    def to_data(self) -> dict[str, Any]:
        """Return plain JSON data: every field that differs from its default, and the schema's id if there is one."""
        data = self.model_dump(mode="json", exclude_defaults=True, by_alias=True)
        schema_id = getattr(self, "schema_id", None)
        return data if schema_id is None else {"schema": schema_id, **data}

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Show only what differs from the defaults, so that the repr is short and can be pasted."""
        fields = type(self).model_fields
        return [
            (name, value) for name, value in super().__repr_args__() if name is None or value != fields[name].default
        ]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type[BaseModel], handler: GetCoreSchemaHandler) -> CoreSchema:
        """Stop at the first wrong item of a sequence: a million wrong ones would be a gigabyte of errors."""
        schema = handler(source)
        _fail_fast(schema)
        return schema

    @classmethod
    def from_data(cls, data: object, source: str) -> Self:
        """Validate ``data``; raise ``InvalidInputError`` that names ``source`` and the field."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise from_validation_error(error, source) from None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read one value from a JSON file; raise ``InvalidInputError`` for anything that is not one."""
        return cls.from_data(read_json(path), str(path))


def read_json(path: Path) -> Any:  # noqa: ANN401 - JSON is untyped until a model validates it
    """Parse a JSON file; raise ``InvalidInputError`` with the line for a syntax error."""
    return parse_json(read_text(path), str(path))


def parse_json(text: str, source: str) -> Any:  # noqa: ANN401 - JSON is untyped until a model validates it
    """Parse the JSON ``text`` of ``source``; raise ``InvalidInputError`` with the line for a syntax error.

    An object in which a name stands twice is refused: which of the two counts is up to each reader.
    """
    allowed = "a JSON document"
    if sum(map(text.count, ",[{")) > MOST_VALUES:
        raise InvalidInputError(source, given="too many values", allowed=f"at most {MOST_VALUES}")
    try:
        return json.loads(text, object_pairs_hook=unambiguous(source))
    except json.JSONDecodeError as error:
        raise InvalidInputError(source, field=f"line {error.lineno}", given=error.msg, allowed=allowed) from None
    except RecursionError:
        raise InvalidInputError(source, given="nested too deeply", allowed=allowed) from None
    except ValueError:  # Python refuses to parse whole numbers of more than 4,300 digits
        raise InvalidInputError(source, given="a number has too many digits", allowed=allowed) from None


def unambiguous(source: str) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    """Return the hook that makes objects of the JSON of ``source``: a name twice is an ``InvalidInputError``."""

    def make(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
            field = terminal(clipped(twice, _LONGEST_QUOTE))
            raise InvalidInputError(source, field=field, given="given twice", allowed="each name once")
        return found

    return make


def parse_toml(text: str, source: str) -> dict[str, Any]:
    """Parse the TOML ``text`` of ``source``; raise ``InvalidInputError`` for anything else."""
    allowed = "a TOML document"
    if len(text) > MOST_TOML:
        raise InvalidInputError(source, given="too large", allowed=f"at most {MOST_TOML / 1e6:g} MB of TOML")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        given = clipped(ascii(str(error)), _LONGEST_QUOTE)
        raise InvalidInputError(source, given=given, allowed=allowed) from None
    except (ValueError, RecursionError):  # a number of too many digits, or brackets nested too deeply
        raise InvalidInputError(source, given="cannot be parsed", allowed=allowed) from None


_LONGEST_QUOTE = 60
