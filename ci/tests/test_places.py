"""The map and the guide name files, folders and classes of this repository, and each of them is there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from ci.tests.pages import ROOT, prose

if TYPE_CHECKING:
    from pathlib import Path

LIBRARY = ROOT / "conformance" / "attnconf"
SOURCES = [ROOT / name for name in ("ci", "conformance", "fixtures", "pytest_plugin")]
BASES = (ROOT, LIBRARY, LIBRARY / "backends")
"""Where a path may start."""

PLACE = re.compile(r"`([\w./-]+(?:\.(?:json|md|py|toml|yml)|/))(?:: (\w+))?`")
"""A code span that is a file or a folder, and behind a colon one of its classes; ``NAME`` stands for any name."""


def is_there(path: str, name: str) -> bool:
    if "NAME" in path:
        return is_there(path.rpartition("/")[0] + "/", "")
    if "/" not in path and not name:
        return (ROOT / path).exists() or any(True for source in SOURCES for _ in source.rglob(path))
    found = [base / path for base in BASES if (base / path).exists()]
    return bool(found) and (not name or re.search(rf"^class {name}\b", found[0].read_text(), re.MULTILINE) is not None)


def missing(page: Path) -> list[str]:
    return [" ".join(place) for place in PLACE.findall(prose(page)) if not is_there(*place)]


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_what_it_names_is_there(name: str) -> None:
    assert missing(ROOT / name) == []


def test_what_is_gone_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "`cases/case.py: Case` `cases/case.py: Gone` `oracle/attention.py` `gone.py` `gone/` `judging/checks/NAME.py`"
    )
    assert missing(page) == ["cases/case.py Gone", "gone.py ", "gone/ "]
