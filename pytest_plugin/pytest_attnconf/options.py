"""Options and markers, and whether this run asks for attnconf at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_attnconf.builds import Building, add_options, seconds
from pytest_attnconf.reporting import Reporter
from pytest_attnconf.state import ISOLATE, KEY, State

if TYPE_CHECKING:
    import pytest

MARKERS = (
    "sm100: needs a GPU of the SM100 family (compute capability 10.x); elsewhere it is not_run",
    'requires_sm(*sms): needs a compute capability such as "9.0" or "12.x", or another one named; elsewhere not_run',
)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Offer ``pytest_attnconf_register_backends``."""
    from pytest_attnconf import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


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
        help="run each backend in a process of its own, where a lost device or a hang costs one result; auto: the"
        " installed ones, on a GPU",
    )
    group.addoption(
        "--attnconf-case-seconds",
        metavar="SECONDS",
        type=seconds,
        help="how long one case may take in a process of its own before that is ended (600 unless told)",
    )
    add_options(group)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers and what this run will know."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    state = State(config)
    config.stash[KEY] = state
    config.pluginmanager.register(Building(state), "attnconf-building")  # its hooks come after the reporter's
    config.pluginmanager.register(Reporter(state), "attnconf-reporter")
    config.add_cleanup(state.close)
