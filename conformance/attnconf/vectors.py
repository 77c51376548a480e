"""Vectors: recorded cases, each kept for a reason, in files with provenance."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from attnconf.canonical import Value, read_json
from attnconf.case import Case
from attnconf.errors import InvalidInputError
from attnconf_fixtures import ROOT


class Vector(Value):
    """One recorded case: ``note`` says what it is for, ``bug`` names the historical bug that it recalls, if any."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    note: str
    bug: str = ""
    case: Case


class VectorFile(Value):
    """A group of vectors with their provenance."""

    schema_id: Literal["attnconf.vectors/1"] = Field(default="attnconf.vectors/1", alias="schema")
    provenance: str
    vectors: tuple[Vector, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [vector.name for vector in self.vectors]
        if len(set(names)) != len(names):
            message = "two vectors have the same name"
            raise ValueError(message)
        return self


@cache
def shipped_vectors() -> dict[str, Vector]:
    """Return the shipped vectors by name."""
    files = [VectorFile.read(path) for path in sorted((ROOT / "vectors").glob("*.json"))]
    return {vector.name: vector for file in files for vector in file.vectors}


def read_cases(path: Path) -> dict[str, Case]:
    """Return the cases of a saved case file, a vector file, or a folder of such files, by name.

    Raises ``InvalidInputError`` for anything else, and for a folder without any.
    """
    if path.is_dir():
        found: dict[str, Case] = {}
        for file in sorted(path.glob("*.json")):
            found |= read_cases(file)
        if not found:
            raise InvalidInputError(str(path), given="holds no case files", allowed="*.json files of cases or vectors")
        return found
    data = read_json(path)
    if isinstance(data, dict) and "vectors" in data:
        file_of_vectors = VectorFile.from_data(data, str(path))
        return {vector.name: vector.case for vector in file_of_vectors.vectors}
    return {path.stem: Case.from_data(data, str(path))}
