"""README's table of exit statuses says what the code does: no status of either is missing from the other."""

from __future__ import annotations

import ast
from itertools import pairwise
from pathlib import Path

import pytest

import attnconf
from pytest_attnconf import exits

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
ROWS = {
    int(cells[1]): (cells[2].strip(), cells[3].strip())
    for cells in (line.split("|") for line in README.splitlines() if line.startswith("|"))
    if cells[1].strip().isdigit()
}


PYTESTS_OWN = range(pytest.ExitCode.NO_TESTS_COLLECTED + 1)


def statuses(path: Path) -> dict[int, str]:
    """Return the exit statuses that a module defines, with the sentence that stands below each."""
    body = [*ast.parse(path.read_text(encoding="utf-8")).body, ast.Pass()]
    found = {}
    for node, below in pairwise(body):
        if not (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)):
            continue
        if node.targets[0].id.startswith("EXIT_") and isinstance(node.value, ast.Constant):
            says = below.value if isinstance(below, ast.Expr) else None
            text = says.value if isinstance(says, ast.Constant) else ""
            found[int(str(node.value.value))] = " ".join(str(text).split())
    return found


def test_the_plugin_s_statuses_are_those_of_the_table() -> None:
    own = statuses(Path(exits.__file__))
    assert set(own) == {10, 11, 12}
    assert {status for status, (of_pytest, _) in ROWS.items() if of_pytest} == {*PYTESTS_OWN, *own}
    for status, sentence in own.items():
        text = sentence.replace("``", "`").removesuffix(".")
        assert ROWS[status][0] == text[0].lower() + text[1:]


def test_the_command_line_s_statuses_are_those_of_the_table() -> None:
    own = statuses(Path(attnconf.__file__).parent / "cli" / "statuses.py")
    assert set(own) == {1, 2, 3, 10, 11, 13, 130}
    assert all(own.values())
    assert {status for status, (_, of_command) in ROWS.items() if of_command} == {0, *own}
