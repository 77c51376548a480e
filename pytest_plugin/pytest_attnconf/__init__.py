"""The pytest plugin of attnconf: ``pytest -p attnconf``.

This module is what pytest registers; each hook lives in the module of its concern. Loading it costs nothing: neither
torch nor attnconf is imported before an option, a marker or a fixture of ours is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_attnconf import hookspecs, options
from pytest_attnconf.builds import Building
from pytest_attnconf.collection import pytest_collection_modifyitems, pytest_generate_tests
from pytest_attnconf.ending import begin, begin_as_given
from pytest_attnconf.fixtures import attnconf
from pytest_attnconf.markers import MARKERS, pytest_runtest_setup
from pytest_attnconf.outcomes import pytest_report_teststatus, pytest_runtest_makereport
from pytest_attnconf.reporting import Reporter
from pytest_attnconf.state import KEY, State
from pytest_attnconf.timing import attnconf_benchmark
from pytest_attnconf.workers.knowledge import pytest_sessionfinish, pytest_testnodedown, start_early
from pytest_attnconf.workers.pinning import pytest_load_initial_conftests, pytest_xdist_auto_num_workers
from pytest_attnconf.workers.sharing import pytest_xdist_make_scheduler, pytest_xdist_setupnodes

if TYPE_CHECKING:
    import pytest

__all__ = [
    "attnconf",
    "attnconf_benchmark",
    "pytest_addhooks",
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_generate_tests",
    "pytest_load_initial_conftests",
    "pytest_report_teststatus",
    "pytest_runtest_makereport",
    "pytest_runtest_setup",
    "pytest_sessionfinish",
    "pytest_testnodedown",
    "pytest_xdist_auto_num_workers",
    "pytest_xdist_make_scheduler",
    "pytest_xdist_setupnodes",
]


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Offer ``pytest_attnconf_register_backends``."""
    pluginmanager.add_hookspecs(hookspecs)


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the options, and begin the receipt: an error of the command line or of a conftest can only come later."""
    options.pytest_addoption(parser)
    config: pytest.Config | None = pluginmanager.get_plugin("pytestconfig")
    if config is not None:
        begin_as_given(config)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, what this run knows, and the hooks that share it."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    state = State(config)
    if state.option("receipt") and not state.is_worker:
        begin(config, state.option("receipt"))
    config.stash[KEY] = state
    start_early(state)
    config.pluginmanager.register(Building(state), "attnconf-building")  # its hooks come after the reporter's
    config.pluginmanager.register(Reporter(state), "attnconf-reporter")
    config.add_cleanup(state.close)
