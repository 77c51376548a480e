"""Count the floors of the house: ``python ci/floors.py``.

A module stands one floor above the highest module that it imports, and modules in a circle share a floor. Every import
counts, of types alone and inside a function, too. The facade ``attnconf/__init__.py`` is left out: it is made of the
names of others.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import grimp

ROOTS = ("attnconf", "pytest_attnconf")

Graph = Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class Floors:
    """The height of an import graph, and its circles."""

    height: int
    circles: tuple[tuple[str, ...], ...]

    @property
    def text(self) -> str:
        """Return both in one line, with the members of each circle."""
        circles = "".join(f"\n    circle: {', '.join(circle)}" for circle in self.circles)
        return f"{self.height} floors, {len(self.circles)} circles{circles}"


def import_graph(root: str) -> dict[str, frozenset[str]]:
    """Return what each module of the package ``root`` imports of that package, without ``root`` itself."""
    found = grimp.build_graph(root, include_external_packages=False, cache_dir=None)
    modules = found.modules - {root}
    return {module: frozenset(found.find_modules_directly_imported_by(module) & modules) for module in sorted(modules)}


def collapsed(graph: Graph, package: str) -> dict[str, frozenset[str]]:
    """Return the graph of the direct children of ``package``: what lies inside a child counts as that child."""
    depth = package.count(".") + 2
    child = {module: ".".join(module.split(".")[:depth]) for module in graph if module.startswith(f"{package}.")}
    edges: dict[str, set[str]] = {name: set() for name in child.values()}
    for module, name in child.items():
        edges[name] |= {child[imported] for imported in graph[module] if imported in child} - {name}
    return {name: frozenset(imported) for name, imported in edges.items()}


def packages(graph: Graph) -> list[str]:
    """Return the packages among the modules: those that have a module inside."""
    return sorted({module.rpartition(".")[0] for module in graph} & set(graph))


def floors(graph: Graph) -> Floors:
    """Return the number of modules on the longest path of imports, where a circle counts as one, and all circles."""
    height: dict[str, int] = {}
    circles = []
    for group in _groups(graph):  # whatever a group imports came before it
        below = {imported for module in group for imported in graph[module]} - set(group)
        floor = 1 + max((height[module] for module in below), default=0)
        height.update(dict.fromkeys(group, floor))
        if len(group) > 1:
            circles.append(tuple(sorted(group)))
    return Floors(max(height.values(), default=0), tuple(sorted(circles)))


def _groups(graph: Graph) -> Iterator[list[str]]:
    """Yield the strongly connected components, each behind those that it imports (Tarjan)."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []

    def visit(module: str) -> Iterator[list[str]]:
        index[module] = lowest[module] = len(index)
        path.append(module)
        for imported in sorted(graph[module]):
            if imported not in index:
                yield from visit(imported)
                lowest[module] = min(lowest[module], lowest[imported])
            elif imported in path:
                lowest[module] = min(lowest[module], index[imported])
        if lowest[module] == index[module]:
            start = path.index(module)
            group = path[start:]
            del path[start:]
            yield group

    for module in graph:
        if module not in index:
            yield from visit(module)


def main() -> None:
    """Print the floors of each root package, module by module and with its packages collapsed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("roots", nargs="*", default=ROOTS, help=f"import packages ({' '.join(ROOTS)})")
    for root in parser.parse_args().roots:
        graph = import_graph(root)
        print(f"{root}: {len(graph)} modules, {len(packages(graph))} packages, {floors(graph).text}")
        print(
            f"{root}, each package as one: {len(collapsed(graph, root))} nodes, {floors(collapsed(graph, root)).text}"
        )


if __name__ == "__main__":
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough; nothing more may be written, not even at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
