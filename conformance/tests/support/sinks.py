"""Sinks as their readers see them: what a terminal, a CI, a browser and a shell would make of an output."""

from __future__ import annotations

import re
import subprocess
import unicodedata
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

from conformance.tests.support.hostile import FORGED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_COMMAND = re.compile(r"\s*::|.*##(?:vso|teamcity)?\[", re.IGNORECASE | re.DOTALL)
_WRAPPED = " " * 5
_TAGS = {"details", "summary", "br", "sup"}


def terminal_faults(text: str) -> Iterator[str]:
    """Yield what in an output of a program acts on a terminal or a log, or stands as a line that it did not write.

    What is indented by ``_WRAPPED`` goes on with a line above it.
    """
    for line in text.split("\n"):
        strange = [char for char in line if unicodedata.category(char) in _HIDDEN or char == "\u3164"]
        if strange:
            yield f"{strange[0]!a} in {line!a}"
        if _COMMAND.match(line):
            yield f"a CI obeys {line!a}"
        if not line.startswith(_WRAPPED) and line.strip().startswith((FORGED, f"# {FORGED}")):
            yield f"a line of a stranger's: {line!a}"


def command_faults(text: str) -> Iterator[str]:
    """Yield the lines of ``report --format github`` that are no annotation of ours."""
    for line in text.split("\n")[:-1]:
        if not re.fullmatch(r"::error title=[^:,]*::.*", line) or not line.isprintable():
            yield f"no annotation: {line!a}"


def markdown_faults(text: str) -> Iterator[str]:
    """Yield markup of a Markdown document that is not ours."""
    for token in MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text):
        for one in (token, *(token.children or ())):
            if one.type in {"html_inline", "html_block"} and (tags := _tags(one.content)):
                yield f"tags {tags} in {one.content!a}"
            if one.type in {"image", "s_open", "hr"} or (one.type == "link_open" and "evil" in str(one.attrs)):
                yield f"{one.type} {one.attrs}"
            if one.type in {"fence", "code_block"}:
                yield from (f"{line!a} in a block" for line in one.content.split("\n") if not line.isprintable())
            elif one.type != "inline" and one.content.lstrip().startswith((FORGED, "evil")):
                yield f"a line of a stranger's: {one.content!a}"
    prose = re.sub(r"^(`{3,}).*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from (f"GitHub links {found!a}" for found in re.findall(r"\w+://evil\S*|www\.evil\S*", _visible(prose)))
    yield from (f"hidden in {line!a}" for line in text.split("\n") if not line.isprintable())


def _visible(text: str) -> str:
    """Return Markdown without its HTML attributes' and summaries' text, in which GitHub links nothing we could mend."""
    return re.sub(r"<summary>.*?</summary>", "", text)


def _tags(text: str) -> list[str]:
    found = _Tags()
    found.feed(text)
    return [one for one in found.tags if one not in _TAGS] + found.attributes


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]


def page_faults(text: str) -> Iterator[str]:
    """Yield elements and attributes of an HTML page that are not ours."""
    found = _Tags()
    found.feed(text)
    yield from (f"<{tag}>" for tag in found.tags if tag in {"script", "img", "iframe", "object", "form", "base"})
    yield from (name for name in found.attributes if name.startswith("on"))
    yield from (f"hidden in {line!a}" for line in text.split("\n") if not line.isprintable())


def junit_faults(text: str) -> Iterator[str]:
    """Yield what in JUnit XML cannot be shown; raises for what is no XML."""
    for element in ET.fromstring(text).iter():  # noqa: S314 - our own file
        for value in (element.text or "", *element.attrib.values()):
            if strange := [char for char in value if unicodedata.category(char) in _HIDDEN - {"Cc"}]:
                yield f"{strange[0]!a} in <{element.tag}>"


def shell_faults(command: str, folder: Path) -> Iterator[str]:
    """Run ``command`` in a shell in which our programs do nothing, and yield what it did beside calling one."""
    script = f"attnconf() {{ :; }}\npytest() {{ :; }}\n{command}\n"
    for options in (("-n",), ()):
        done = subprocess.run(["sh", *options, "-c", script], cwd=folder, capture_output=True, check=False)  # noqa: S603, S607
        if done.returncode or done.stdout or done.stderr:
            yield f"{command!a}: {done.returncode} {done.stderr!a}"
    if made := [path.name for path in folder.iterdir() if path.name == "pwned"]:
        yield f"{command!a} made {made}"
