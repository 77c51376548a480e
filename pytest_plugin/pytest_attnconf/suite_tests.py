"""The suite's tests: which family, backend and model each is about. Their module names and node ids are read only here.

The family ``sm100`` is the exception that this module settles: its tests name no backend, for they are about one, and
they draw the cases of other families.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pytest

SM100 = "sm100"
SM100_BACKEND = "trtllm_mha"
"""The backend whose kernels the tests of ``sm100`` are about."""

VECTORS = "vectors"
MACHINE = "machine"
_NOT_DRAWN = ("refusal", SM100, VECTORS, MACHINE)
"""The families of tests that are no family of cases."""

_SM100_DRAWS = ("decode", "extend")
_SUITE = "attnconf.suite"
_MODULE = f"{_SUITE}.test_"
_SM100_TEST = "test_trtllm_gen"
_NODE_ID = re.compile(r"(?:\A|attnconf/suite/)test_(\w+)\.py::\w+\[(.+)\]\Z")
"""pytest names a file relative to its root folder, or relative to the suite when the suite is outside of that."""


@dataclass(frozen=True)
class SuiteTest:
    """One test of the suite.

    ``family`` is the one of its file, as ``--attnconf-family`` takes it, and ``drawn`` the family whose cases it draws:
    they differ for ``sm100``. ``model`` is empty for refusals; ``vector`` is the recorded case of a test that
    replays one, which has neither a model nor cases to draw.
    """

    family: str
    backend: str
    drawn: str = ""
    model: str = ""
    vector: str = ""

    @classmethod
    def of_item(cls, item: pytest.Item) -> SuiteTest | None:
        """Return what ``item`` is about, or None for a test that is not of the suite."""
        family = family_of(getattr(getattr(item, "module", None), "__name__", ""))
        if not family:
            return None
        params = getattr(getattr(item, "callspec", None), "params", {})
        return cls(
            family,
            backend=SM100_BACKEND if family == SM100 else params.get("backend", ""),
            drawn=params.get("sm100_family", "") if family == SM100 else next(iter(drawn_by(family)), ""),
            model=params.get("model", ""),
            vector=params.get("vector", ""),
        )

    @classmethod
    def of_nodeid(cls, nodeid: str, backends: Sequence[str]) -> SuiteTest | None:
        """Return what the test with this node id is about, or None for one that is not of the suite.

        The parameters begin with one of ``backends``, except those of ``sm100``.
        """
        match = _NODE_ID.search(nodeid)
        if match is None:
            return None
        family, params = match.groups()
        if family == SM100:
            model, _, drawn = params.rpartition("-")
            return cls(family, SM100_BACKEND, drawn, model)
        backend = backend_of(nodeid, backends)
        if not backend:
            return None
        rest = params.removeprefix(backend).removeprefix("-")
        if family == VECTORS:
            return cls(family, backend, vector=rest)
        return cls(family, backend, next(iter(drawn_by(family)), ""), rest)


def backend_of(nodeid: str, backends: Sequence[str]) -> str:
    """Return the backend among ``backends`` with whose name a test's parameters begin, or an empty text.

    Unlike ``SuiteTest.of_nodeid`` this also reads tests outside of the suite, and node ids without a file, which pytest
    gives when one file outside of its root folder is run. So it can only be a hint.
    """
    name, _, rest = nodeid.rpartition("::")[2].partition("[")
    if name == _SM100_TEST:
        return SM100_BACKEND
    params = rest.removesuffix("]")
    return max((name for name in backends if f"{params}-".startswith(f"{name}-")), key=len, default="")


def family_of(module: str) -> str:
    """Return the family of tests in the module of this name, or an empty text for one that is not of the suite."""
    return module.removeprefix(_MODULE) if module.startswith(_MODULE) else ""


def drawn_by(family: str) -> tuple[str, ...]:
    """Return the families of cases that tests of ``family`` draw: one, or none for refusals, vectors and the machine.

    The tests of ``sm100`` are parametrised over theirs; every other family draws its own.
    """
    if family == SM100:
        return _SM100_DRAWS
    return () if family in _NOT_DRAWN else (family,)


def suite_families() -> tuple[str, ...]:
    """Return every family of tests: those of cases, and the suite's others."""
    from attnconf.cases.drawing.families import FAMILIES

    return (*FAMILIES, *_NOT_DRAWN)


def names_suite(args: Iterable[str]) -> bool:
    """Whether ``args`` of the command line name the suite, as a module or as a path."""
    return any(_SUITE in _dotted(arg) for arg in args)


def families_named(args: Iterable[str]) -> frozenset[str]:
    """Return the families whose files ``args`` name: none of them when the whole suite is named."""
    found = set()
    for arg in args:
        if names_suite([arg]):
            family = _dotted(arg).partition("::")[0].removesuffix(".py").partition(_MODULE)[2]
            if not family:
                return frozenset()
            found.add(family)
    return frozenset(found)


def _dotted(arg: str) -> str:
    return arg.replace("/", ".").replace("\\", ".")
