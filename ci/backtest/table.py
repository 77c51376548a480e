"""The table of the backtest: a bug that was released, the releases around it, and what the suite must say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from attnconf.clauses import Clause
from attnconf.files import read_text
from attnconf.values import Value, parse_toml

TABLE = Path(__file__).parent / "entries.toml"

Text = Annotated[str, Field(min_length=1, max_length=600)]
Id = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
Version = Annotated[str, Field(pattern=r"^\d[\w.]*$")]
Beside = Annotated[str, Field(pattern=r"^[a-z0-9-]+(==\d[\w.]*)?$")]
Machine = Literal["cpu", "sm90"]


class Entry(Value):
    """One bug.

    ``project`` and ``number`` name its thread; ``number`` is empty where only the sources of the two releases tell.
    ``broken`` is the last release that has it and ``fixed`` the first that has not. A ``whole`` wheel is unpacked with
    its binaries, and so are the packages ``beside`` it, of the version that is named or of the same one.
    ``adapter`` is MODULE:FUNCTION of ``ci/backtest/adapters``, or the name of a backend on a machine with a GPU.
    ``families`` and ``models`` are asked, and one of ``clauses`` must fail. ``known`` says what else fails on the fixed
    release, and why. ``gap`` names the kind of input that was missing, for a bug that is missed, or why it cannot run.
    ``missed_first`` says that the suite's first try, before the kind of any gap was closed, missed it.
    """

    id: Id
    bug: Text
    project: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    number: Annotated[str, Field(pattern=r"^(#\d+)?$")] = ""
    package: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    broken: Version
    fixed: Version
    machine: Machine = "cpu"
    whole: bool = False
    beside: tuple[Beside, ...] = ()
    adapter: Annotated[str, Field(pattern=r"^\w+(:\w+)?$")]
    families: tuple[str, ...] = Field(min_length=1)
    models: tuple[str, ...] = Field(min_length=1)
    clauses: tuple[Annotated[int, Field(ge=1, le=len(Clause))], ...] = Field(min_length=1)
    source: Text
    known: str = ""
    gap: str = ""
    missed_first: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.broken == self.fixed:
            raise ValueError(f"broken and fixed are both {self.broken}: a bug is in one of them")
        return self


class Table(Value):
    """All entries, in the order in which they were chosen; ``chosen`` says how."""

    schema_id: Literal["attnconf.backtest/1"] = Field(alias="schema")
    chosen: Annotated[str, Field(min_length=1, max_length=4000)]
    entries: tuple[Entry, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        ids = [entry.id for entry in self.entries]
        twice = sorted({one for one in ids if ids.count(one) > 1})
        if twice:
            raise ValueError(f"two entries have the id {twice[0]}")
        return self

    def on(self, machine: str) -> tuple[Entry, ...]:
        """Return the entries of one kind of machine."""
        return tuple(entry for entry in self.entries if entry.machine == machine)


def read_table(path: Path = TABLE) -> Table:
    """Read a table. Raises ``InvalidInputError`` that names the file and the field."""
    return Table.from_data(parse_toml(read_text(path), str(path)), str(path))
