"""The markers ``sm100`` and ``requires_sm``: on other hardware a test is not_run, with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from pytest_attnconf.fixtures import make_judge
from pytest_attnconf.outcomes import GATED
from pytest_attnconf.state import KEY
from pytest_attnconf.suite_tests import SM100, SuiteTest
from pytest_attnconf.terminal import fail

if TYPE_CHECKING:
    from attnconf.cases.drawing.families import Family
    from attnconf.policy.conditions import Condition

MARKERS = (
    "sm100: needs a GPU of the SM100 family (compute capability 10.x); elsewhere it is not_run",
    'requires_sm(*sms): needs a compute capability such as "9.0" or "12.x", or another one named; elsewhere not_run',
)
SM100_FAMILY = ("10.x",)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """End a gated test before its fixtures on the wrong hardware; a gated test of the suite is counted.

    Of several marks (of a module, a class and a function, say) every one must hold.
    """
    marks = [mark for mark in item.iter_markers() if mark.name in {"sm100", "requires_sm"}]
    if not marks:
        return
    from attnconf.judging.result import Outcome
    from attnconf.running.judge import NotJudged

    conditions = [_condition(mark) for mark in marks]
    platform = item.config.stash[KEY].platform
    unmet = [condition for condition in conditions if not condition.holds(platform)]
    if not unmet:
        return
    here = f"SM {platform.sm_text} ({platform.device})" if platform.sm else "no GPU"
    needs = " and ".join(dict.fromkeys(condition.text for condition in unmet))
    reason = f"needs {needs}, this machine has {here}"
    _count(item, reason)
    item.user_properties.append((GATED, needs))
    raise NotJudged(Outcome.NOT_RUN, reason)


def _condition(mark: pytest.Mark) -> Condition:
    from attnconf.errors import AttnconfError
    from attnconf.policy.conditions import Condition

    if mark.name == "sm100":
        if mark.args or mark.kwargs:
            fail("marker sm100 takes no arguments; use requires_sm to name compute capabilities")
        return Condition(sm=SM100_FAMILY)
    if not mark.args or mark.kwargs:
        fail('marker requires_sm takes one or more compute capabilities, such as requires_sm("9.0", "12.x")')
    try:
        return Condition.from_data({"sm": list(mark.args)}, "marker requires_sm")
    except AttnconfError as error:
        refused = str(error)
    # outside of the handler, for pytest shows the error that it handled, too
    return fail(f'{refused}; a compute capability is a text such as "9.0" or "12.x"')


def _count(item: pytest.Item, reason: str) -> None:
    """Count the cases of one of the suite's tests for SM100 as not run."""
    test = SuiteTest.of_item(item)
    if test is not None and test.family == SM100:
        make_judge(item).not_run(cast("Family", test.drawn), model=test.model, backend=test.backend, reason=reason)
