"""Where a command writes: lines for its reader, and what is wrong beside them, all of it escaped."""

from __future__ import annotations

import sys
from shutil import get_terminal_size
from textwrap import wrap
from typing import TYPE_CHECKING

from attnconf.escape import json_text, terminal, terminal_lines, workflow_command

if TYPE_CHECKING:
    from collections.abc import Sequence

_COLUMNS = 100
"""No line is longer that can be wrapped."""


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

    def say_section(self, heading: str, rows: Sequence[tuple[str, str]], style: str) -> None:
        """Write a heading in ``style``, and below it a name and a text in each row, wrapped beside the names."""
        from rich.console import Console as RichConsole
        from rich.text import Text

        RichConsole(highlight=False, soft_wrap=True).print(Text(terminal(heading), style))
        width = max(len(terminal(name)) for name, _ in rows)
        for name, text in rows:
            self.say_wrapped(f"  {terminal(name):<{width}}  {terminal(text)}", indent=width + 4)

    def say_wrapped(self, line: str, indent: int = 2) -> None:
        """Write a line as several of at most 100 columns, or the terminal's; a word, such as a path, stays whole."""
        columns = min(get_terminal_size().columns, _COLUMNS)
        indented = " " * min(indent, columns // 3)
        for part in wrap(
            terminal(line), columns, subsequent_indent=indented, break_long_words=False, break_on_hyphens=False
        ):
            self.say(part)

    def complain(self, line: str) -> None:
        """Write a line to the standard error, which no program reads as a result."""
        print(terminal(line), file=sys.stderr, flush=True)
