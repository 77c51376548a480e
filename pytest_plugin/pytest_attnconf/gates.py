"""The markers ``sm100`` and ``requires_sm``: on other hardware a test is not_run, with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_attnconf.fixtures import make_judge
from pytest_attnconf.state import KEY

if TYPE_CHECKING:
    from collections.abc import Sequence

SM100_FAMILY = ("10.x",)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """End a gated test before its fixtures on the wrong hardware; a gated test of the suite is counted."""
    wanted = _wanted(item)
    if wanted is None:
        return
    from attnconf.conditions import Condition
    from attnconf.errors import AttnconfError
    from attnconf.judge import NotJudged
    from attnconf.result import Outcome

    try:
        condition = Condition.from_data({"sm": list(wanted)}, "marker requires_sm")
    except AttnconfError as error:
        pytest.fail(str(error), pytrace=False)
    platform = item.config.stash[KEY].platform
    if condition.holds(platform):
        return
    here = f"SM {platform.sm_text} ({platform.device})" if platform.sm else "no GPU"
    reason = f"needs SM {' or '.join(wanted)}, this machine has {here}"
    _count(item, reason)
    raise NotJudged(Outcome.NOT_RUN, reason)


def _wanted(item: pytest.Item) -> Sequence[str] | None:
    wanted = [mark.args for mark in item.iter_markers("requires_sm")]
    if item.get_closest_marker("sm100") is not None:
        wanted.append(SM100_FAMILY)
    return wanted[0] if wanted else None


def _count(item: pytest.Item, reason: str) -> None:
    """Count the cases of a test of the suite as not run."""
    params = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    if "sm100_family" in params:
        judge = make_judge(item)
        judge.not_run(params["sm100_family"], model=params["model"], backend="trtllm_mha", reason=reason)
