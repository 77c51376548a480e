"""The pages of this repository: their fenced blocks, and where their links lead."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]

PAGES = tuple(
    sorted(
        page
        for folder in (".", "conformance", "pytest_plugin", "fixtures", "fixtures/*", "ci", "ci/*")
        for page in ROOT.glob(f"{folder}/*.md")
    )
)
"""Every page for readers."""

GENERATED = ("FLOORS.md", "KERNELS.md", "PEERS.md", "SUPPORT.md")
"""Pages that a program writes from results: their blocks are not executed."""

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?:<([^>]+)>|([^)\s]+))\)")


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of one language, page by page."""
    texts = [page.read_text(encoding="utf-8") for page in PAGES if page.name not in GENERATED]
    return [block for text in texts for name, block in _FENCED.findall(text) if name == language]


def links(page: Path) -> list[str]:
    """Return the targets of a page's links within this repository, with their anchors."""
    targets = [match[1] or match[2] for match in _LINK.finditer(prose(page))]
    return [target for target in targets if "://" not in target]


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def dead_links(page: Path) -> list[str]:
    """Return the links of a page whose file, folder or heading does not exist."""
    dead = []
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    return dead


def prose(page: Path) -> str:
    """Return the text of a page without its fenced blocks."""
    return _FENCED.sub("", page.read_text(encoding="utf-8"))
