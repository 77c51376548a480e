"""The fixture ``attnconf``: the judge, for the suite's tests and for your own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_attnconf.outcomes import record
from pytest_attnconf.state import KEY

if TYPE_CHECKING:
    from attnconf.running.judge import Judge


@pytest.fixture
def attnconf(request: pytest.FixtureRequest) -> Judge:
    """Judge backends: ``attnconf.check(case, backend=...)``, ``attnconf.explore(family, model=..., backend=...)``."""
    return make_judge(request.node)


def make_judge(node: pytest.Item) -> Judge:
    """Return the judge of one test; its evidence travels on the test's user_properties.

    Raises ``AttnconfError`` where a conftest registers a name that somebody has.
    """
    from attnconf.report import failure
    from attnconf.running.judge import Judge

    state = node.config.stash[KEY]
    session = state.session
    state.registrar.check()
    return Judge(
        session=session,
        record=lambda evidence: record(node, evidence),
        failures=state.path(state.option("failures")),
        replayed=lambda: state.replayed,
        words=failure,
    )
