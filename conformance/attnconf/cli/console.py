"""Where a command writes: lines for its reader, and what is wrong beside them, all of it escaped."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from attnconf.escape import json_text, terminal, terminal_lines, workflow_command

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Console:
    """The two streams of a command line. Every line is written at once, since a pipe may be read while it runs."""

    def say(self, line: str) -> None:
        """Write a line to the standard output; it stays one, whatever stands in it."""
        print(terminal(line), flush=True)

    def say_document(self, text: str) -> None:
        """Write a text whose own lines are escaped for what they are, such as Markdown or a schema."""
        print("\n".join(terminal_lines(text.removesuffix("\n"))), flush=True)

    def say_data(self, data: object) -> None:
        """Write ``data`` as JSON, for a program."""
        print(json_text(data), flush=True)

    def say_error(self, title: str, text: str) -> None:
        """Write an annotation, a GitHub workflow command; ``text`` may have several lines."""
        print(workflow_command("error", text, title=title), flush=True)

    def say_table(
        self, title: str, heads: Sequence[str], rows: Iterable[Sequence[str]], styles: dict[str, str]
    ) -> None:
        """Write a table as wide as the terminal; a cell that is one of the ``styles`` is written in it."""
        from rich.console import Console as RichConsole
        from rich.table import Table
        from rich.text import Text

        table = Table(*heads, title=title, title_justify="left")
        for row in rows:
            table.add_row(*(Text(terminal(cell), styles.get(cell, "")) for cell in row))
        RichConsole(highlight=False, markup=False, emoji=False).print(table)

    def complain(self, line: str) -> None:
        """Write a line to the standard error, which no program reads as a result."""
        print(terminal(line), file=sys.stderr, flush=True)
