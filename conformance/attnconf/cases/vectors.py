"""Vectors: recorded cases, each kept for a reason, in files with provenance."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from attnconf.cases.case import Case
from attnconf.cases.features import Feature
from attnconf.errors import InvalidInputError
from attnconf.values import Value, read_json
from attnconf_fixtures import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Vector(Value):
    """One recorded case: ``note`` gives its purpose, ``bug`` the historical bug behind it, if any.

    ``shows`` names the features that must be effective on it: a vector without the power to show its bug is useless.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    note: str
    bug: str = ""
    shows: tuple[Feature, ...] = ()
    case: Case


class VectorFile(Value):
    """A group of vectors with their provenance."""

    schema_id: Literal["attnconf.vectors/1"] = Field(default="attnconf.vectors/1", alias="schema")
    provenance: str
    vectors: tuple[Vector, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [vector.name for vector in self.vectors]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two vectors are called {twice}")
        return self


@cache
def shipped_vectors() -> dict[str, Vector]:
    """Return the shipped vectors by name."""
    files = [VectorFile.read(path) for path in sorted((ROOT / "vectors").glob("*.json"))]
    return {vector.name: vector for file in files for vector in file.vectors}


def read_cases(path: Path) -> dict[str, Case]:
    """Return the cases of a saved case file, a vector file, or a folder of such files, by name.

    Raises ``InvalidInputError`` for anything else, and for a folder without any; empty files of a folder are left out.
    """
    if path.is_dir():
        found: dict[str, Case] = {}
        empty = empty_files(path)
        for file in sorted(path.glob("*.json")):
            if file not in empty:
                _add(found, read_cases(file))
        if not found:
            raise InvalidInputError(str(path), given="holds no case files", allowed="*.json files of cases or vectors")
        return found
    data = read_json(path)
    if isinstance(data, dict) and "vectors" in data:
        file_of_vectors = VectorFile.from_data(data, str(path))
        return {vector.name: vector.case for vector in file_of_vectors.vectors}
    return {path.stem: Case.from_data(data, str(path))}


def empty_files(path: Path) -> list[Path]:
    """Return the empty case files of a folder: nothing is in them, as a run on a full disk may have left them."""
    found = sorted(path.glob("*.json")) if path.is_dir() else []
    return [file for file in found if file.is_file() and file.stat().st_size == 0]


def cases_to_replay(paths: Sequence[Path]) -> dict[str, Case]:
    """Return the cases of the given files and folders, or the shipped ones without any."""
    if not paths:
        return {name: vector.case for name, vector in shipped_vectors().items()}
    found: dict[str, Case] = {}
    for path in paths:
        _add(found, read_cases(path))
    return found


def _add(found: dict[str, Case], more: dict[str, Case]) -> None:
    """Add cases by name. A case whose name is taken by another one is added by name and id, so none is lost."""
    for name, case in more.items():
        found[name if found.get(name, case) == case else f"{name}-{case.id}"] = case
