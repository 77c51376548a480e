"""The pytest plugin of attnconf: ``pytest -p attnconf``.

This module is what pytest registers; each hook lives in the module of its concern. Loading it costs nothing: neither
torch nor attnconf is imported before an option, a marker or a fixture of ours is used.
"""

from __future__ import annotations

from pytest_attnconf.collection import pytest_collection_modifyitems, pytest_generate_tests
from pytest_attnconf.fixtures import attnconf
from pytest_attnconf.markers import pytest_runtest_setup
from pytest_attnconf.options import pytest_addhooks, pytest_addoption, pytest_configure
from pytest_attnconf.outcomes import pytest_report_teststatus, pytest_runtest_makereport
from pytest_attnconf.workers.pinning import pytest_load_initial_conftests, pytest_xdist_auto_num_workers
from pytest_attnconf.workers.sharing import pytest_xdist_make_scheduler, pytest_xdist_setupnodes

__all__ = [
    "attnconf",
    "pytest_addhooks",
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_generate_tests",
    "pytest_load_initial_conftests",
    "pytest_report_teststatus",
    "pytest_runtest_makereport",
    "pytest_runtest_setup",
    "pytest_xdist_auto_num_workers",
    "pytest_xdist_make_scheduler",
    "pytest_xdist_setupnodes",
]
