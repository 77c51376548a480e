"""Stand-ins for libraries that an engine imports and that the asked part of it never calls."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class _StandIn(ModuleType):
    """A module in which every name is an empty class: fit for imports and annotations, and for nothing else."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        made = type(name, (), {})
        setattr(self, name, made)
        return made


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def owns(self, fullname: str) -> bool:
        """Whether the module or one that it lies in is stood in for."""
        parts = fullname.split(".")
        return any(".".join(parts[:depth]) in self._names for depth in range(1, len(parts) + 1))

    def find_spec(self, fullname: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        if not self.owns(fullname):
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = _StandIn(spec.name)
        module.__path__ = []
        return module

    def exec_module(self, module: ModuleType) -> None:
        pass


@contextmanager
def stand_ins(*names: str, always: tuple[str, ...] = ()) -> Iterator[None]:
    """Let those of the top-level modules ``names`` that are not installed be imported inside the block.

    So can the modules ``always``, by their full names, installed or not: what loads on a GPU's machine only, for one.
    transformers looks for such libraries itself, when it is imported; so it is, before they seem to be there.
    """
    missing = frozenset(name for name in names if importlib.util.find_spec(name) is None)
    if missing and importlib.util.find_spec("transformers") is not None:
        importlib.import_module("transformers.utils.import_utils").is_torchvision_available()
    finder = _Finder(missing | frozenset(always))
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if finder.owns(name)]:
            del sys.modules[name]
