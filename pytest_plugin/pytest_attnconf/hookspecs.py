"""The hook that attnconf offers to a repository's conftest.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from attnconf.backends.registry import Registry


@pytest.hookspec(historic=True)
def pytest_attnconf_register_backends(registry: Registry) -> None:
    """Register backends: ``registry.register(name, factory)``, with ``factory(platform) -> Backend``.

    The backend's own name is ``name``, or that with a variant in brackets. A name that an installed distribution or
    another file has cannot be taken.

    Implement it with ``@pytest.hookimpl(optionalhook=True)``: the conftest then still loads without the plugin. A
    conftest that pytest loads late is asked, too; but the suite's tests are made for the backends known at the start.
    """
