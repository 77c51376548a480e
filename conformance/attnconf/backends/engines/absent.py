"""Stand-ins for libraries that an engine imports, but that the tested part of it never calls."""

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
    """A module in which every name is an empty class, good for imports and annotations only."""

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
        """Whether the module or one of its parents has a stand-in."""
        pieces = fullname.split(".")
        return any(".".join(pieces[:depth]) in self._names for depth in range(1, len(pieces) + 1))

    def made(self, module: ModuleType) -> bool:
        """Whether this finder made ``module``."""
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
    """Import stand-ins inside the block for those of the top-level modules ``names`` that are not installed.

    The modules ``always``, by their full names, get stand-ins even if they are installed: some load with a GPU only. A
    package in ``parts`` without its ``__init__`` gets stand-ins for the modules that are not installed: some of an
    engine's compiled packages are too large to install, but need a few of their Python modules. transformers looks for
    such libraries itself when it is imported, so it is imported before the stand-ins exist.
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
    """Return whether ``package`` is installed with its ``__init__``."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None


def _places(package: str) -> list[str]:
    spec = importlib.util.find_spec(package)
    return [] if spec is None else list(spec.submodule_search_locations or ())
