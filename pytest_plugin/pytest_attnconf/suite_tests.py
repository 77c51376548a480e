"""Whether a run asks for attnconf: by an option of ours, or by the suite on its command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

_OURS = ("profile", "backend", "model", "seed", "receipt", "policy", "plan", "job", "sm", "require_sm", "replay")
_SUITE = "attnconf.suite"
_OF_SM100 = "test_trtllm_gen"
SM100_BACKEND = "trtllm_mha"
"""Whose kernels the suite's tests for SM100 are about."""


def flag(name: str) -> str:
    """Return the option's name on the command line."""
    return f"--attnconf-{name.replace('_', '-')}"


def is_asked_for(options: argparse.Namespace, args: Iterable[str]) -> bool:
    """Whether an option of ours is given, or the suite is among the tests to run."""
    return any(getattr(options, f"attnconf_{name}", None) for name in _OURS) or names_suite(args)


def names_suite(args: Iterable[str]) -> bool:
    """Whether ``args`` name the suite, as a module or as a path."""
    return any(_SUITE in arg.replace("/", ".").replace("\\", ".") for arg in args)


def backend_of(test: str, backends: Sequence[str]) -> str:
    """Return which of ``backends`` a test of the suite is about: its parameters begin with the name; or nothing.

    The tests for SM100 name a model and a mode, and are about one backend.
    """
    name, _, rest = test.rpartition("::")[2].partition("[")
    if name == _OF_SM100:
        return SM100_BACKEND
    params = rest.removesuffix("]")
    return max((name for name in backends if f"{params}-".startswith(f"{name}-")), key=len, default="")
