"""Right implementations with a changed expression: a private copy of their source is edited, then imported.

Such a mutant is the implementation with a patch. No code is written twice, and an edit that no longer fits the
implementation fails by name.
"""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import dataclass
from functools import cache
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.util import find_spec, spec_from_loader
from typing import TYPE_CHECKING, Literal

from attnconf.errors import AttnconfError
from attnconf.values import digest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType

    from attnconf.backends.protocol import Backend
    from attnconf.platforms import Platform

Implementation = Literal["reference", "triton", "trtllm_mha"]

_BACKENDS = "attnconf.backends"
_COPIES = "attnconf_mutant_"
_EDITED_MODULE: dict[Implementation, str] = {
    "reference": "reference",
    "triton": "triton.tile",
    "trtllm_mha": "flashinfer.trtllm_mha.calls",
}
"""The module that an edit of an implementation changes by default."""

_PACKAGE: dict[Implementation, str] = {
    "reference": "reference",
    "triton": "triton",
    "trtllm_mha": "flashinfer.trtllm_mha",
}
"""The module or package of an implementation and its factory, below ``attnconf.backends``."""


class StaleEditError(AttnconfError):
    """An edit whose expression does not occur in the implementation as often as the edit says."""


@dataclass(frozen=True)
class Edit:
    """``old``, which occurs ``times`` times in ``module`` (below ``attnconf.backends``), becomes ``new``.

    The default ``module`` is ``reference``, ``triton.tile`` or ``flashinfer.trtllm_mha.calls``. All three translate
    page tables in ``tables``.
    """

    old: str
    new: str
    module: str = ""
    times: int = 1


@dataclass(frozen=True)
class Edited:
    """The factory of ``implementation`` with ``edits``, as a value that can be pickled."""

    implementation: Implementation
    edits: tuple[Edit, ...]

    def __call__(self, platform: Platform) -> Backend:
        """Return the backend, whose code is imported once per process.

        Raises ``StaleEditError``, and what the implementation's own factory raises if it cannot work.
        """
        made: Backend = _imported(self).make(platform)
        return made


def edited(implementation: Implementation, *edits: Edit) -> Edited:
    """Return a factory of ``implementation`` with ``edits``."""
    return Edited(implementation, edits)


@cache
def _imported(given: Edited) -> ModuleType:
    """Return the edited copy of the implementation's package or module."""
    copies = _Copies(given)
    for edit in given.edits:
        copies.source(copies.module_of(edit))  # now, since a module that is imported later would fail later
    sys.meta_path.insert(0, copies)
    return importlib.import_module(f"{copies.root}.{_PACKAGE[given.implementation]}")


class _Copies(MetaPathFinder):
    """Finds the copies of one implementation's modules, and of others that are edited, in a package of their own."""

    def __init__(self, given: Edited) -> None:
        self._given = given
        edits = [[edit.module, edit.old, edit.new, edit.times] for edit in given.edits]
        self.root = _COPIES + digest([given.implementation, edits])[:16]
        # an edited module outside the package, too: imports of the original would run without the edit
        copied = {_PACKAGE[given.implementation], "tables", *map(self.module_of, given.edits)}
        names = "|".join(map(re.escape, sorted(copied)))
        self._own = re.compile(rf"\b{re.escape(_BACKENDS)}\.(?=(?:{names})\b)")

    def module_of(self, edit: Edit) -> str:
        """Return the module that ``edit`` changes, below ``attnconf.backends``."""
        return edit.module or _EDITED_MODULE[self._given.implementation]

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a copy. All other names are left to other finders."""
        del path, target
        root, _, name = fullname.partition(".")
        if root != self.root:
            return None
        if not name:
            return spec_from_loader(fullname, _Text(fullname, ""), is_package=True)
        original = find_spec(f"{_BACKENDS}.{name}")
        is_package = original is not None and original.submodule_search_locations is not None
        return spec_from_loader(fullname, _Text(fullname, self.source(name)), is_package=is_package)

    def source(self, name: str) -> str:
        """Return the source of module ``name`` with its edits, in which imports of copied modules import the copies."""
        original = find_spec(f"{_BACKENDS}.{name}")
        text = None
        if original is not None and isinstance(original.loader, InspectLoader):
            text = original.loader.get_source(original.name)
        if text is None:
            raise StaleEditError(f"there is no source of {_BACKENDS}.{name} to edit")
        for edit in self._given.edits:
            if self.module_of(edit) != name:
                continue
            found = text.count(edit.old)
            if found != edit.times:
                message = f"{_BACKENDS}.{name} has {edit.old!r} {found} times; the edit was written for {edit.times}"
                raise StaleEditError(message)
            text = text.replace(edit.old, edit.new)
        return self._own.sub(f"{self.root}.", text)


class _Text(InspectLoader):
    """Loads a module from text, which stays available: Triton compiles kernels from their source."""

    def __init__(self, name: str, text: str) -> None:
        self._path = f"{name.replace('.', '/')}.py"
        self._text = text

    def get_source(self, fullname: str) -> str:
        """Return the text."""
        del fullname
        return self._text

    def get_code(self, fullname: str) -> CodeType:
        """Compile the text, under its own path."""
        return self.source_to_code(self.get_source(fullname), self._path)
