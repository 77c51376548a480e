"""The options ``--attnconf-*``, and whether a run asks for attnconf: by one of them, or by naming the suite."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_attnconf.suite_tests import names_suite

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    import pytest

ISOLATE = {"auto": None, "on": True, "off": False}
"""The values of ``--attnconf-isolate``, as a session takes them."""

_ASKING = ("profile", "backend", "model", "seed", "receipt", "policy", "plan", "job", "sm", "require_sm", "replay")
"""The options that ask for attnconf when one of them is given, without the suite, too."""


def flag(name: str) -> str:
    """Return the option's name on the command line."""
    return f"--attnconf-{name.replace('_', '-')}"


def is_asked_for(options: argparse.Namespace, args: Iterable[str]) -> bool:
    """Whether an option of ours is given, or the suite is among the tests to run."""
    return any(getattr(options, f"attnconf_{name}", None) for name in _ASKING) or names_suite(args)


def seconds(text: str) -> float:
    """Read a number of seconds. Raises ``ArgumentTypeError``."""
    from attnconf.cli.arguments import seconds as read  # only now: an option of ours is given

    return read(text)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ``--attnconf-*`` options."""
    group = parser.getgroup("attnconf", "conformance of attention backends")
    group.addoption("--attnconf-profile", metavar="NAME", help="smoke, gate (the default), nightly or replay")
    group.addoption(
        "--attnconf-backend", metavar="NAME", action="append", default=[], help="judge this backend only (repeatable)"
    )
    group.addoption(
        "--attnconf-model",
        metavar="NAME|CONFIG",
        action="append",
        default=[],
        help="ask this model only: a shipped name, a config.json, or free (repeatable)",
    )
    group.addoption("--attnconf-seed", metavar="N", help="draw other cases: a whole number, 0 unless told")
    group.addoption("--attnconf-receipt", metavar="FILE", help="write what the run proves, as JSON")
    group.addoption("--attnconf-policy", metavar="NAME|FILE", help="fail unless this policy's defaults are proven here")
    group.addoption(
        "--attnconf-plan", metavar="FILE", help="bind the receipt to this plan of a fleet; needs the policy and the job"
    )
    group.addoption(
        "--attnconf-job", metavar="NAME", help="the plan's job that this run is: only its cells must be met"
    )
    group.addoption(
        "--attnconf-sm", metavar="M.N", help="resolve the policy for this compute capability; runs nothing on it"
    )
    group.addoption(
        "--attnconf-require-sm",
        metavar="M.N",
        help="exit 12 unless this machine's GPU is of this capability (10.0, or 10.x) and every backend runs on it",
    )
    group.addoption(
        "--attnconf-failures",
        metavar="DIR",
        default="attnconf-failures",
        help="where failing cases are saved (attnconf-failures unless told)",
    )
    group.addoption(
        "--attnconf-replay",
        metavar="PATH",
        action="append",
        default=[],
        help="cases of the family vectors: a case file, a vector file or a folder of them (repeatable)",
    )
    group.addoption(
        "--attnconf-allow-retries",
        action="store_true",
        help="run beside a plugin that retries failed tests; every attempt counts as evidence, a failed one too",
    )
    group.addoption(
        "--attnconf-isolate",
        choices=ISOLATE,
        default="auto",
        help="run each backend in a process of its own, where a crash or a hang costs one result; auto: the"
        " installed ones",
    )
    group.addoption(
        "--attnconf-case-seconds",
        metavar="SECONDS",
        type=seconds,
        help="how long one case may take in a process of its own before that is ended (600 unless told)",
    )
    group.addoption(
        "--attnconf-family",
        metavar="NAME",
        action="append",
        default=[],
        help="run this family of the suite's tests only, such as decode (repeatable)",
    )
    group.addoption(
        "--attnconf-build-budget",
        metavar="SECONDS",
        type=seconds,
        help="CPU seconds that one kernel module may take to build (120 unless told); a dearer one is used if it is"
        " built, and else what needs it is not_run",
    )
