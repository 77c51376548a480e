"""What users import from ``attnconf`` is all there, is loaded late, and is what README and the examples need."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import attnconf

ROOT = Path(__file__).parents[2]
SCRIPTS = [*(ROOT / "ci" / "examples").rglob("*.py"), *(ROOT / "ci" / "templates").rglob("*.py")]
PAGES = [
    path
    for path in ROOT.rglob("*.md")
    if not any(part in {".git", "build"} or part.startswith(".venv") for part in path.relative_to(ROOT).parts)
]


@pytest.mark.parametrize("name", attnconf.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(attnconf, name) is not None
    assert name in dir(attnconf)


def test_the_names_are_sorted_and_each_once() -> None:
    assert attnconf.__all__ == sorted(set(attnconf.__all__))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'attnconf' has no attribute 'Nothing'"):
        _ = attnconf.Nothing  # type: ignore[attr-defined]


def test_importing_it_loads_nothing() -> None:
    code = "import attnconf, sys; sys.exit(1 if {'torch', 'pydantic', 'hypothesis'} & set(sys.modules) else 0)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603 - fixed


def imported(code: str) -> set[str]:
    """Return the modules of ours that ``code`` imports."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.partition(".")[0] == "attnconf"}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_examples_and_templates_import_the_facade_alone(path: Path) -> None:
    assert imported(path.read_text(encoding="utf-8")) <= {"attnconf"}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_import_the_facade_alone(path: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
        assert imported(block) <= {"attnconf"}
