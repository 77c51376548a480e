"""Packages that register a backend through the entry point and are broken, each in one way, with what is said of it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

PROTOCOL = "; see attnconf.backends.protocol"

_GOOD = """
from attnconf.backends.reference import ReferenceBackend

class {name}(ReferenceBackend):
    name = "{name}"
    {member}

def make(platform):
    return {name}()
"""


@dataclass(frozen=True)
class Package:
    """A distribution ``NAME-attention`` 1.0 with one module, ``MODULE``, and one entry point.

    ``says`` follows ``backend NAME of DISTRIBUTION (entry point VALUE)``; {module} stands for the module's name.
    """

    source: str
    says: str
    function: str = ":make"
    module: str = ""


def member(line: str) -> str:
    """Return a module whose backend is the reference with one line of its class changed."""
    return _GOOD.replace("{member}", line)


BROKEN = {
    "absent": Package(
        member("pass"),
        "does not load: there is no module {module}; correct the entry point, or put the module into the wheel",
        module="absent_atention",
    ),
    "needy": Package(
        "import libneedy.kernels",
        "does not load: {module} imports libneedy, which is not installed; install it, and declare that"
        " needy-attention needs it",
    ),
    "raising": Package(
        "raise RuntimeError('no\\n  device')",
        "does not load: importing {module} raises RuntimeError: no device; python -c 'import {module}' shows where",
    ),
    "halting": Package(
        "raise SystemExit(4)",
        "ends the process: exit 4; let it raise BackendUnavailableError with what this machine lacks",
    ),
    "unnamed": Package(
        member("pass"),
        "does not load: {module} has no mak; let the entry point name the function that makes the backend",
        function=":mak",
    ),
    "module": Package(
        member("pass"),
        "does not load: what it names is of type module, and no function; let the entry point name the function that"
        " makes the backend",
        function="",
    ),
    "instance": Package(
        member("pass") + "\nmade = make(None)",
        "does not load: what it names is of type instance, and no function; let the entry point name the function that"
        " makes the backend",
        function=":made",
    ),
    "spaced": Package(
        member("pass"),
        "does not load: that does not read module:function; correct the entry point",
        function=" make",
    ),
    "nullary": Package(
        member("pass").replace("make(platform)", "make()"),
        "does not start: make() cannot be called with the platform alone; define it as make(platform)",
    ),
    "greedy": Package(
        member("pass").replace("make(platform)", "make(platform, device)"),
        "does not start: make(platform, device) cannot be called with the platform alone; define it as make(platform)",
    ),
    "failing": Package(
        "def make(platform):\n    raise KeyError('sm')",
        "does not start: KeyError: 'sm'; mend it, or let it raise BackendUnavailableError with what this machine lacks",
    ),
    "void": Package(
        "def make(platform):\n    pass",
        "does not start: make returned None; let it return the backend",
    ),
    "undecided": Package(member("supports = None"), "is no backend: it has no supports(shape, platform)" + PROTOCOL),
    "empty": Package(
        "class Empty:\n    name = 'empty'\n    evidence = 'kernel'\n\ndef make(platform):\n    return Empty()",
        "is no backend: it has no promises, no supports(shape, platform), no numerics(shape), no prepare(batch)"
        + PROTOCOL,
    ),
    "narrow": Package(
        member("def supports(self, shape): return None"),
        "is no backend: its supports(shape) cannot be called as supports(shape, platform)" + PROTOCOL,
    ),
    "classy": Package(
        member("pass").replace("{name}()", "{name}"),
        "is no backend: its supports(self, shape, platform) cannot be called as supports(shape, platform), its"
        " numerics(self, shape) cannot be called as numerics(shape), its prepare(self, batch) cannot be called as"
        " prepare(batch)" + PROTOCOL,
    ),
    "boastful": Package(
        member("evidence = 'gpu'"),
        "is no backend: its evidence is 'gpu', not 'kernel' or 'contract'" + PROTOCOL,
    ),
    "promising": Package(
        member("promises = {'lse': 'natural'}"),
        "is no backend: its promises are of type dict, not Promises" + PROTOCOL,
    ),
    "listing": Package(
        member("promises = type(ReferenceBackend.promises)(dead_k=['zero', 'stale'])"),
        "is no backend: its promises.dead_k is of type list, not frozenset" + PROTOCOL,
    ),
    "moody": Package(
        member("promises = property(lambda self: 1 / 0)"),
        "is no backend: reading its promises raises ZeroDivisionError: division by zero" + PROTOCOL,
    ),
    "blank": Package(member("name = ''"), "is no backend: its name is '', not 'blank'" + PROTOCOL),
    "borrowed": Package(
        member("name = 'reference'"),
        "is no backend: its name is 'reference', not 'borrowed'" + PROTOCOL,
    ),
    "quoted": Package(
        member("evidence = 'contract'; name = 'quoted[contract]'"),
        "is no backend: its name is 'quoted[contract]', not 'quoted': that it executes a contract is said by its"
        " evidence alone" + PROTOCOL,
    ),
    "unclosed": Package(
        member("name = 'unclosed[fast'"),
        "is no backend: its name is 'unclosed[fast', not 'unclosed'" + PROTOCOL,
    ),
}
"""By the name of their backend."""


@dataclass(frozen=True)
class Site:
    """A folder ahead of all others on the search path; what is imported from it is forgotten after the test."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch

    def __post_init__(self) -> None:
        self.monkeypatch.syspath_prepend(self.folder)

    def install(self, name: str, package: Package, *, registers: str = "") -> str:
        """Install ``package`` as pip leaves it, and return the sentence that it deserves.

        ``registers`` is the name under which it registers its backend, when that is not its own.
        """
        module = f"{name}_attention"
        self.monkeypatch.delitem(sys.modules, module, raising=False)
        info = self.folder / f"{module}-1.0.dist-info"
        info.mkdir()
        (self.folder / f"{module}.py").write_text(package.source.replace("{name}", name), encoding="utf-8")
        value = (package.module or module) + package.function
        metadata = f"Metadata-Version: 2.1\nName: {name}-attention\nVersion: 1.0\n"
        (info / "METADATA").write_text(metadata, encoding="utf-8")
        points = f"[attnconf.backends]\n{registers or name} = {value}\n"
        (info / "entry_points.txt").write_text(points, encoding="utf-8")
        says = package.says.replace("{module}", package.module or module)
        return f"backend {name} of {name}-attention 1.0 (entry point {value}) {says}"
