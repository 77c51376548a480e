"""Documents: the file of a serving benchmark, one JSON document or several behind each other (JSONL)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from attnconf.errors import InvalidInputError
from attnconf.fields import Fields
from attnconf.files import read_text
from attnconf.gate.serving.bench import bench_result
from attnconf.gate.serving.genai import genai_result, is_genai
from attnconf.gate.serving.ledger import SCHEMA, Ledger
from attnconf.values import unambiguous

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from attnconf.gate.serving.result import ServingResult

_DOCUMENT = "a serving benchmark's result, as JSON or JSONL"
MOST_BYTES = 64 * 10**6
"""With details a result holds every generated text, and the times of all tokens."""

_MOST_VALUES = 6 * 10**6


def read_results(path: Path) -> tuple[ServingResult, ...]:
    """Read every result in ``path``. Raises ``InvalidInputError`` for a file that is not of such a benchmark."""
    return tuple(map(serving_result, read_documents(path)))


def read_documents(path: Path) -> tuple[Fields, ...]:
    """Read every document in ``path``, whatever is in it. Raises ``InvalidInputError`` for what is no JSON object."""
    documents = list(_documents(read_text(path, MOST_BYTES), str(path)))
    names = [str(path) if len(documents) == 1 else f"{path}, result {i}" for i in range(1, len(documents) + 1)]
    return tuple(Fields(name, data) for data, name in zip(documents, names, strict=True))


def serving_result(fields: Fields) -> ServingResult:
    """Return what a document says of its requests. Raises ``InvalidInputError`` for what is no such result."""
    if fields.data.get("schema") == SCHEMA:
        return Ledger.from_data(fields.data, fields.source).result(fields.source)
    return genai_result(fields) if is_genai(fields) else bench_result(fields)


def _documents(text: str, source: str) -> Iterator[dict[str, Any]]:
    if sum(map(text.count, ",[{")) > _MOST_VALUES:
        raise InvalidInputError(source, given="too many values", allowed=f"at most {_MOST_VALUES}")
    decoder, at = json.JSONDecoder(object_pairs_hook=unambiguous(source)), _skip_space(text, 0)
    if at == len(text):
        raise InvalidInputError(source, given="is empty", allowed=_DOCUMENT)
    while at < len(text):
        try:
            data, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            line = f"line {error.lineno}"
            raise InvalidInputError(source, field=line, given=error.msg, allowed=_DOCUMENT) from None
        except (RecursionError, ValueError):  # nested too deeply, or a number of more than 4,300 digits
            raise InvalidInputError(source, given="cannot be parsed", allowed=_DOCUMENT) from None
        if not isinstance(data, dict):
            raise InvalidInputError(source, given=f"holds a {type(data).__name__}", allowed=_DOCUMENT)
        yield data
        at = _skip_space(text, at)


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at
