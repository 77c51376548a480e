"""Text of receipts in other languages: what a file says must not become markup, a command or a moving cursor."""

from __future__ import annotations

import html
import re

_MARKDOWN = re.compile(r"[\\`*\[\]<>#|~&@$]|^[-+]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
"""What is active in GitHub's Markdown; an underscore within a word is not, so that names stay readable in the file."""


def readable(text: str) -> str:
    """Return ``text`` with every character escaped that cannot be shown, but for line breaks and spaces."""
    return "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text)


def markdown(text: str) -> str:
    """Return one line of ``text`` for a Markdown document: nothing in it is markup, a mention or a column."""
    return _MARKDOWN.sub(r"\\\g<0>", " ".join(readable(text).split()))


def html_line(text: str) -> str:
    """Return one line of ``text`` for an HTML tag inside a Markdown document, where Markdown's escapes do not hold."""
    return html.escape(" ".join(readable(text).split()))


def fenced(text: str) -> str:
    """Return ``text`` as a fenced block, which no fence inside it can end."""
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall(r"`+", text))])
    return f"{fence}text\n{readable(text)}\n{fence}"


def workflow_data(text: str) -> str:
    """Return ``text`` as the message of a GitHub workflow command.

    The rule is ``escapeData`` of actions/toolkit, packages/core/src/command.ts.
    """
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def workflow_property(text: str) -> str:
    """Return ``text`` as a property of a GitHub workflow command (``escapeProperty``, in the same file)."""
    return workflow_data(text).replace(":", "%3A").replace(",", "%2C")
