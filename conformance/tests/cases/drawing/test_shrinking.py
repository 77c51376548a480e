"""Shrinking goes down to the simplest choices that still fail, and asks nothing twice on its way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from attnconf.cases.drawing.choices import Choices
from attnconf.cases.drawing.counter import counted
from attnconf.cases.drawing.record import recorded, repeated
from attnconf.cases.drawing.shrinking import shrink

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.cases.drawing.record import Record


def a_list(choices: Choices) -> list[int]:
    """Draw up to five parts, each of one to a thousand."""
    count = choices.between("parts", 1, 5)
    return [choices.within(f"part {index}").between("size", 1, 1000) for index in range(count)]


def smallest(seed: int, fails: Callable[[list[int]], bool]) -> list[int]:
    """Return the smallest failing list from the first of ``seed`` that fails."""

    def ask(record: Record) -> Record | None:
        made: Record = {}
        return made if fails(a_list(Choices(recorded(repeated(record), made)))) else None

    for number in range(1000):
        made: Record = {}
        if fails(a_list(Choices(recorded(counted(seed, number), made)))):
            return a_list(Choices(repeated(shrink(made, ask)[-1])))
    raise AssertionError


@pytest.mark.parametrize("seed", range(5))
def test_one_part_is_left_wherever_it_stood_and_it_is_the_least_that_fails(seed: int) -> None:
    assert smallest(seed, lambda parts: max(parts) >= 700) == [700]
    assert smallest(seed, lambda parts: max(parts[1:], default=0) >= 700) == [1, 700]
    assert smallest(seed, lambda parts: len(parts) >= 3) == [1, 1, 1]
    assert smallest(seed, lambda _: True) == [1]


def test_a_choice_of_few_options_is_the_lowest_that_fails_also_between_others_that_pass() -> None:
    failing = {"option": 9}
    assert shrink(failing, lambda record: record if record.get("option", 0) in {4, 9} else None)[-1] == {"option": 4}


def test_what_does_not_fail_again_stays_as_it_was() -> None:
    failing = {"a": 5, "part 1/b": 70}
    assert shrink(failing, lambda _: None) == [failing]


def test_a_name_that_comes_again_is_another_choice() -> None:
    made: Record = {}
    choices = Choices(recorded(counted(0, 0), made))
    drawn = [choices.below("same", 10**9) for _ in range(3)]
    assert len(set(drawn)) == len(made) == 3
    again = Choices(recorded(repeated(made), {}))
    assert [again.below("same", 10**9) for _ in range(3)] == drawn


def test_a_choice_depends_on_its_name_and_number_alone() -> None:
    assert [counted(7, 3)(name, 1000) for name in ("mode", "request 1/keys", "mode")] == [642, 824, 642]
    drawn = {counted(seed, number)("mode", 2**31) for seed in range(30) for number in range(30)}
    assert len(drawn) == 900


def test_options_come_equally_often_and_orders_too() -> None:
    sources = [Choices(counted(1, number)) for number in range(6000)]
    counts = [sum(choices.below("option", 6) == option for choices in sources) for option in range(6)]
    assert all(900 < count < 1100 for count in counts)
    orders = [tuple(choices.shuffled("order", "abc")) for choices in sources]
    assert all(900 < orders.count(order) < 1100 for order in set(orders))
    assert len(set(orders)) == 6
    assert Choices(repeated({})).shuffled("order", "abc") == ["a", "b", "c"]
