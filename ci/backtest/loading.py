"""The modules of one release, imported out of its folder without the rest of its package.

A wheel of an engine imports half of the world from its ``__init__``. A kernel's module needs a few names of that. So
the packages above it are empty shells, the modules that are asked for are the release's own files, and what these
import beside them are stand-ins with the few values that they read.
"""

from __future__ import annotations

import importlib
import importlib.abc
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    StandIns = Mapping[str, Mapping[str, Any]]


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules of ``package``: those named in ``own`` as files, ``stand_ins`` as given, packages as shells."""

    def __init__(self, folder: Path, package: str, own: frozenset[str], stand_ins: StandIns) -> None:
        self._folder = folder
        self._package = package
        self._own = own
        self._stand_ins = stand_ins

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, *_: object) -> ModuleSpec | None:
        del path
        if fullname in self._stand_ins:
            return ModuleSpec(fullname, self, is_package=True)
        if fullname.partition(".")[0] != self._package:
            return None
        place = self._folder.joinpath(*fullname.split("."))
        if fullname in self._own:
            return PathFinder.find_spec(fullname, [str(place.parent)])
        if place.is_dir():
            return ModuleSpec(fullname, self, is_package=True)
        message = f"{fullname} is neither a stand-in nor a module that the adapter names"
        raise ModuleNotFoundError(message, name=fullname)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = ModuleType(spec.name)
        module.__path__ = [str(self._folder.joinpath(*spec.name.split(".")))]
        vars(module).update(self._stand_ins.get(spec.name, {}))
        return module

    def exec_module(self, module: ModuleType) -> None:
        pass


def load(folder: Path, names: Sequence[str], *, also: Sequence[str] = (), stand_ins: StandIns) -> ModuleType:
    """Import the first of ``names`` that the release in ``folder`` has, and return it.

    ``names`` are the places at which releases had one module, newest first. It may import the modules ``also`` of the
    release, and ``stand_ins`` by their full names. Triton decides where a kernel is defined whether it is interpreted,
    and some releases ask for the compute capability there: it is 9.0. Raises ``ModuleNotFoundError`` for a release
    that has none of ``names``, or imports what is neither.
    """
    name = next((one for one in names if _file(folder, one).is_file()), None)
    if name is None:
        raise ModuleNotFoundError(f"{folder.name} has none of {', '.join(names)}", name=names[0])
    finder = _Finder(folder, name.partition(".")[0], frozenset((name, *also)), stand_ins)
    sys.meta_path.insert(0, finder)
    os.environ["TRITON_INTERPRET"] = "1"
    with mock.patch.object(torch.cuda, "get_device_capability", return_value=(9, 0)):
        return importlib.import_module(name)


def _file(folder: Path, name: str) -> Path:
    return folder.joinpath(*name.split(".")).with_suffix(".py")
