"""The import graph has no circle: not among modules, and not among the children of any package."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ci.floors import ROOTS, Floors, collapsed, floors, import_graph, packages
from ci.tests.pages import ROOT

TOY = {
    "toy.a": frozenset({"toy.b.top"}),
    "toy.b": frozenset[str](),
    "toy.b.top": frozenset({"toy.b.bottom"}),
    "toy.b.bottom": frozenset({"toy.c"}),
    "toy.c": frozenset({"toy.b.top"}),
    "toy.d": frozenset({"toy.a"}),
}


@pytest.mark.parametrize("root", ROOTS)
def test_no_module_imports_itself_through_others(root: str) -> None:
    assert floors(import_graph(root)).circles == ()


@pytest.mark.parametrize("root", ROOTS)
def test_no_package_imports_itself_through_its_neighbours(root: str) -> None:
    graph = import_graph(root)
    found = {package: floors(collapsed(graph, package)).circles for package in (root, *packages(graph))}
    assert {package: circles for package, circles in found.items() if circles} == {}


def test_the_house_has_at_most_11_floors() -> None:
    assert floors(collapsed(import_graph("attnconf"), "attnconf")).height <= 11


def test_a_circle_is_found_and_counts_as_one_floor() -> None:
    assert floors(TOY) == Floors(3, (("toy.b.bottom", "toy.b.top", "toy.c"),))


def test_a_package_counts_as_one() -> None:
    children = collapsed(TOY, "toy")
    assert children == {"toy.a": {"toy.b"}, "toy.b": {"toy.c"}, "toy.c": {"toy.b"}, "toy.d": {"toy.a"}}
    assert floors(children).circles == (("toy.b", "toy.c"),)


def test_the_script_prints_a_line_a_root_and_one_of_its_packages() -> None:
    done = subprocess.run([sys.executable, "ci/floors.py"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.partition(":")[0] for line in done.stdout.splitlines() if not line.startswith(" ")] == [
        "attnconf",
        "attnconf, each package as one",
        "pytest_attnconf",
        "pytest_attnconf, each package as one",
    ]


WAITING = "import runpy, sys; input(); sys.argv = ['floors']; runpy.run_path('ci/floors.py', run_name='__main__')"


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", WAITING], cwd=ROOT, text=True, **pipes) as done:  # noqa: S603 - our own script
        assert done.stdout is not None
        done.stdout.close()
        done.stdout = None
        _, told = done.communicate("\n")
    assert (done.returncode, told) == (141, "")
