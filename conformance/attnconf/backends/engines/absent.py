"""Stand-ins for libraries that an engine imports and that the asked part of it never calls."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class _StandIn(ModuleType):
    """A module in which every name is an empty class: fit for imports and annotations, and for nothing else."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        made = type(name, (), {})
        setattr(self, name, made)
        return made


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, names: frozenset[str], parts: Mapping[str, list[str]]) -> None:
        self._names = names
        self._parts = parts

    def owns(self, fullname: str) -> bool:
        """Whether the module or one that it lies in is stood in for."""
        pieces = fullname.split(".")
        return any(".".join(pieces[:depth]) in self._names for depth in range(1, len(pieces) + 1))

    def made(self, module: ModuleType) -> bool:
        """Whether ``module`` is a stand-in of this finder's."""
        return isinstance(module, _StandIn) and module.__spec__ is not None and module.__spec__.loader is self

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, *_: object) -> ModuleSpec | None:
        top = fullname.partition(".")[0]
        lacking = top in self._parts and (fullname == top or PathFinder.find_spec(fullname, path) is None)
        return ModuleSpec(fullname, self, is_package=True) if lacking or self.owns(fullname) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = _StandIn(spec.name)
        module.__path__ = self._parts.get(spec.name, [])
        return module

    def exec_module(self, module: ModuleType) -> None:
        pass


@contextmanager
def stand_ins(*names: str, always: tuple[str, ...] = (), parts: tuple[str, ...] = ()) -> Iterator[None]:
    """Let those of the top-level modules ``names`` that are not installed be imported inside the block.

    So can the modules ``always``, by their full names, installed or not: what loads on a GPU's machine only, for one.
    Of a package in ``parts`` without an ``__init__`` of its own, what is installed is imported, and the rest is stood
    in for: some of an engine's compiled packages are too large to carry, and a few of their modules are Python.
    transformers looks for such libraries itself, when it is imported; so it is, before they seem to be there.
    """
    missing = frozenset(name for name in names if importlib.util.find_spec(name) is None)
    if missing and importlib.util.find_spec("transformers") is not None:
        importlib.import_module("transformers.utils.import_utils").is_torchvision_available()
    finder = _Finder(missing | frozenset(always), {name: _places(name) for name in parts if not is_whole(name)})
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name, module in sys.modules.items() if finder.made(module)]:
            del sys.modules[name]


def is_whole(package: str) -> bool:
    """Return whether ``package`` is installed with the ``__init__`` that a package ships."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None


def _places(package: str) -> list[str]:
    spec = importlib.util.find_spec(package)
    return [] if spec is None else list(spec.submodule_search_locations or ())
