"""What judging a small case costs a host, in operations of torch: a GPU waits for them, and does each in no time.

A number here is what was counted when it was written. Lower it when a change lowers it; raise it only for what is new.
"""

from __future__ import annotations

import pytest
import torch

from attnconf.backends.reference import ReferenceBackend
from attnconf.cases.request import Request
from attnconf.judging.checks.catalogue import CHECKS
from attnconf.judging.run import run_case
from attnconf.mutants.small_cases import FULL, SLIDING, ask
from attnconf.platforms import Platform
from conformance.tests.support.operations import operations

BASE = 508
"""Of the inputs, the answers and a run of each layer of the case, and of what is judged without another run."""

MORE = {"dead_slots": 167, "repeated": 277, "siblings": 606, "overwritten": 655, "consistency": 800}
"""Of some checks beside that. Two layers share what they ask beside their case: each costs little more than one."""

EFFECTS = 638
"""Of the features that matter to the answer."""

REQUEST = 68
"""Of one more request: its run of two layers in a backend that takes one after the other, and little else."""

ROOM = 1.03
"""Another release of torch may take an operation apart."""


def counted(*names: str, count_effects: bool = False, requests: int = 0) -> int:
    """Return the operations of judging a case by checks of these names beside those of its own run.

    ``requests`` is how many it has, of which all are alike; 0 leaves those of the case.
    """
    changes = {"requests": (Request(prefix_len=17, new_tokens=3),) * requests} if requests else {}
    checks = tuple(check for check in CHECKS if check.name in names or not check.extra)

    def judge() -> None:
        result = run_case(
            ask("extend", SLIDING, FULL, **changes),
            ReferenceBackend(),
            Platform(),
            torch.device("cpu"),
            choose=lambda _: checks,
            count_effects=count_effects,
        )
        assert [layer.outcome.is_executed for layer in result.layers] == [True, True]

    judge()  # makes what is kept for later cases, such as the table of noise
    return operations(judge)


def test_the_inputs_the_answers_and_their_comparison_ask_for_few_operations() -> None:
    assert counted() <= ROOM * BASE


@pytest.mark.parametrize("name", MORE)
def test_a_check_asks_for_few_operations(name: str) -> None:
    assert counted(name) <= ROOM * (BASE + MORE[name])


def test_effects_ask_for_few_operations() -> None:
    assert counted(count_effects=True) <= ROOM * (BASE + EFFECTS)


def test_one_more_request_asks_for_few_operations() -> None:
    assert counted(requests=8) - counted(requests=2) <= 6 * REQUEST


def test_an_operation_counts_and_a_view_does_not() -> None:
    numbers = torch.ones(3, 4)
    assert operations(lambda: numbers.view(4, 3)[1:].transpose(0, 1) + 1) == 1
    assert operations(lambda: numbers.sum().item()) == 2  # waiting for a device counts
