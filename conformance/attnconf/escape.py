"""Escape: how text that others wrote leaves the program, one function for each sink.

What a file, a backend or a file name says must not become markup, a command or a moving cursor where it is shown. So
every text goes through the function of its sink where it is written, and those who make up sentences escape nothing.
"""

from __future__ import annotations

import json
import re
import shlex
from html import escape as _escape_html
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable

_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0")
"""Characters that count as printable and show nothing."""

_COMMAND_START = re.compile(r"^( *):(?=:)")
_COMMAND_MARK = re.compile(r"#(?=#(?:vso|teamcity)?\[)", re.IGNORECASE)
"""Where a CI takes a line of a log for a command: ``::`` behind blanks alone, and ``##[`` and its like anywhere.

GitHub's rules are ``TryParseV2`` and ``TryParse`` of actions/runner, src/Runner.Common/ActionCommand.cs.
"""

_MARKDOWN = re.compile(
    r"[\\`*\[\]<>#|~&@$]|^[-+=]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|:(?=//)|(?<=www)\.", re.IGNORECASE
)
"""What is active in GitHub's Markdown; an underscore within a word is not, so that names stay readable in the file."""
_MARKDOWN_NUMBER = re.compile(r"^(\d+)([.)])(?= |$)")

_NO_FILE_NAME = re.compile(r"[^\w.:@+-]", re.ASCII)
_LONGEST_FILE_NAME = 120
_PROGRAMS = frozenset({"attnconf", "pytest"})
"""What a command that repeats a failure begins with."""


def terminal(text: str) -> str:
    """Return ``text`` as one line of a terminal or a log, which it can neither end nor leave, and no CI obeys.

    Printable characters of every script stay; the others are written as in a Python literal. Escaping twice is
    escaping once.
    """
    return _COMMAND_MARK.sub(r"\\x23", _COMMAND_START.sub(r"\1\\x3a", "".join(map(_shown, text))))


def terminal_lines(text: str) -> list[str]:
    """Return the lines of ``text`` for a terminal; a line feed is all that ends one."""
    return [terminal(line) for line in text.split("\n")]


def json_text(data: object) -> str:
    """Return ``data`` as JSON for a terminal or a log: ASCII, and nothing that a CI obeys."""
    text = json.dumps(data, indent=1)
    return _COMMAND_MARK.sub(r"\\u0023", text).replace("\x7f", "\\u007f")


def workflow_command(name: str, text: str, *, title: str) -> str:
    """Return a GitHub workflow command such as ``::error``, one line; ``text`` may have several.

    The rules are ``escapeData`` and ``escapeProperty`` of actions/toolkit, packages/core/src/command.ts.
    """
    shown = _workflow_data(title).replace(":", "%3A").replace(",", "%2C")
    return f"::{name} title={shown}::{_workflow_data(text)}"


def _workflow_data(text: str) -> str:
    return readable(text).replace("%", "%25").replace("\n", "%0A")


def readable(text: str) -> str:
    """Return ``text`` for a document that has a markup of its own and escapes it (HTML, XML): its lines stay."""
    return "".join(char if char == "\n" else _shown(char) for char in text)


def junit(text: str) -> str:
    """Return ``text`` for JUnit XML: without the characters that XML cannot hold, escaped or not."""
    return readable(text)


def markdown(text: str) -> str:
    """Return one line of ``text`` for a Markdown document or a cell of its tables: no markup, mention or link."""
    line = _MARKDOWN.sub(r"\\\g<0>", " ".join(readable(text).split()))
    return _MARKDOWN_NUMBER.sub(r"\1\\\2", line)


def markdown_link(text: str, path: str) -> str:
    """Return a link to the file ``path``, relative to the document; it names no scheme and no other host."""
    target = quote(path.encode("utf-8", "surrogateescape"), safe="/+=,@~")
    return f"[{markdown(text)}](<{f'.{target}' if target.startswith('//') else target}>)"


def html(text: str) -> str:
    """Return one line of ``text`` for an HTML tag inside a Markdown document, where Markdown's escapes do not hold."""
    return _escape_html(" ".join(readable(text).split()))


def fenced(text: str) -> str:
    """Return ``text`` as a fenced block of Markdown, which no fence inside it can end."""
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall(r"`+", text))])
    return f"{fence}text\n{readable(text)}\n{fence}"


def picture(text: str) -> str:
    """Return one line of ``text`` for a picture, whose font has ASCII for sure."""
    return "".join(char if char.isascii() and char.isprintable() else _literal(char) for char in text)


def shell(words: Iterable[str]) -> str:
    """Return a command as one line that a POSIX shell splits into ``words``.

    A character that cannot be shown stands as in a Python literal: such a word names nothing, and does nothing.
    """
    return shlex.join("".join(map(_shown, word)) for word in words)


def foreign_command(text: str) -> str:
    """Return the command ``text`` of a file so that it is one of our programs with arguments, and nothing else runs.

    What is no command of ours becomes a comment of the shell.
    """
    shown = "".join(map(_shown, text))
    try:
        words = shlex.split(shown)
    except ValueError:
        words = []
    if words and words[0] in _PROGRAMS:
        return shlex.join(words)
    return shown if shown.startswith("#") else f"# {shown}"


def file_name(text: str) -> str:
    """Return ``text`` as a part of a file's name: not too long, without what separates folders or needs quotes."""
    return _NO_FILE_NAME.sub("_", text)[:_LONGEST_FILE_NAME]


def _shown(char: str) -> str:
    return char if char.isprintable() and char not in _BLANK else _literal(char)


def _literal(char: str) -> str:
    return ascii(char)[1:-1]
