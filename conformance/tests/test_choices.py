"""Choices: a seed draws the same everywhere, what was drawn can be replayed, and made simpler by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnconf.choices import Choices, Drawn, Replayed, simplify


def draw(choices: Choices) -> tuple[list[int], str]:
    """Draw up to three numbers, and a word for those that have any."""
    numbers = [choices.within(f"number {index}").below("size", 1000) for index in range(choices.below("count", 4))]
    word = choices.pick("word", ("none", "some", "many")) if numbers else ""
    return numbers, word


def test_a_seed_draws_the_same_everywhere() -> None:
    drawn = draw(Choices(Drawn("seed 3")))
    assert drawn == draw(Choices(Drawn("seed 3")))
    assert drawn == ([283], "many")
    assert any(draw(Choices(Drawn(f"seed {seed}"))) != drawn for seed in range(5))


def test_what_was_drawn_can_be_replayed_and_one_choice_changed_alone() -> None:
    source = Drawn("seed 3")
    drawn = draw(Choices(source))
    assert draw(Choices(Replayed(source.taken))) == drawn
    assert draw(Choices(Replayed({**source.taken, "number 0/size": 5}))) == ([5], "many")
    assert draw(Choices(Replayed({**source.taken, "count": 0}))) == ([], "")
    assert draw(Choices(Replayed({}))) == ([], "")


def test_fewer_options_than_before_give_the_nearest_one() -> None:
    replayed = Replayed({"word": 2})
    assert Choices(replayed).pick("word", ("a", "b")) == "b"
    assert replayed.taken == {"word": 1}


def test_one_option_is_no_choice() -> None:
    source = Drawn("x")
    assert (Choices(source).below("n", 1), Choices(source).between("m", 4, 4), source.taken) == (0, 4, {})


def test_every_order_can_be_drawn_and_the_simplest_is_the_given_one() -> None:
    orders = {tuple(Choices(Drawn(str(seed))).shuffled("order", [1, 2, 3])) for seed in range(60)}
    assert len(orders) == 6
    assert Choices(Replayed({})).shuffled("order", [1, 2, 3]) == [1, 2, 3]


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 5000), min_size=1), st.integers(0, 5000))
def test_a_threshold_is_found_whatever_else_was_drawn(noise: dict[str, int], least: int) -> None:
    asked = []

    def still(taken: dict[str, int]) -> dict[str, int] | None:
        asked.append(taken)
        return taken if taken["needed"] >= least else None

    found: dict[str, int] = {}

    def keep(taken: dict[str, int]) -> dict[str, int] | None:
        kept = still(taken)
        if kept is not None:
            found.update(kept)
        return kept

    simplify({**noise, "needed": 5000}, keep)
    assert found.get("needed", 5000) == least
    assert not any(found.get(name, index) for name, index in noise.items())
    assert len(asked) < 200


@pytest.mark.parametrize("needed", [{"number 2/size"}, {"count", "word"}])
def test_a_part_that_is_not_needed_goes(needed: set[str]) -> None:
    source = Drawn("seed 8")
    draw(Choices(source))
    best = dict(source.taken)

    def still(taken: dict[str, int]) -> dict[str, int] | None:
        replayed = Replayed(taken)
        draw(Choices(replayed))
        if any(not replayed.taken.get(name, 0) and source.taken.get(name, 0) for name in needed):
            return None
        best.clear()
        best.update(replayed.taken)
        return replayed.taken

    simplify(source.taken, still)
    kept = {name for name, index in best.items() if index}
    assert kept <= needed | {"count"}
