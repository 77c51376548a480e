"""Ranges: what each set has in it, and samples that stand for every value."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnconf.errors import InvalidInputError
from attnconf.platforms import Platform
from attnconf.policy.conditions import Condition, Situation
from attnconf.policy.ranges import sm_in, sm_samples, version_in, version_samples, whole_in, whole_samples


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        ("9.0", [(9, 0)], [(9, 1), (10, 0), None]),
        ("10.x", [(10, 0), (10, 3)], [(9, 0), (11, 0), (12, 0), None]),
        (">=9.0,<10.3", [(9, 0), (10, 0), (10, 2)], [(8, 9), (10, 3), (12, 0), None]),
        (">12.0", [(12, 1), (13, 0)], [(12, 0), (10, 3)]),
        ("none", [None], [(10, 0)]),
    ],
)
def test_compute_capabilities(
    pattern: str, inside: list[tuple[int, int] | None], outside: list[tuple[int, int] | None]
) -> None:
    Condition(sm=(pattern,))
    assert all(sm_in(pattern, sm) for sm in inside)
    assert not any(sm_in(pattern, sm) for sm in outside)


def test_whole_numbers() -> None:
    assert [number for number in range(12) if whole_in(">=2,<=8", number)] == [2, 3, 4, 5, 6, 7, 8]
    assert [number for number in range(12) if whole_in(4, number)] == [4]
    assert not whole_in(">=0", None)


@pytest.mark.parametrize(
    "data",
    [
        {"sm": ["10"]},
        {"sm": [">=10"]},
        {"sm": ["10.x,11.x"]},
        {"sm": ["1+1"]},
        {"sm": "10.x"},
        {"q_len": ["2-8"]},
        {"q_len": [-1]},
        {"q_len": [True]},
        {"q_len": [2.0]},
        {"kv_dtype": ["fp8"]},
        {"user": ["me"]},
        {"cuda": "12.8"},
        {"cuda": "===12.8"},
        {"packages": {"torch": ""}},
        {"packages": {"flashinfer-python": ">=1", "flashinfer_python": "<1"}},
        {"unknown": 1},
    ],
)
def test_what_is_no_set_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError):
        Situation.from_data(data, "test")


@pytest.mark.parametrize(
    ("condition", "text"),
    [({}, "any platform"), ({"sm": ["9.0", "12.x"]}, "SM 9.0 or 12.x"), ({"packages": {"torch": ">2"}}, "torch >2")],
)
def test_conditions_in_words(condition: dict[str, object], text: str) -> None:
    assert Condition.from_data(condition, "test").text == text


def test_package_names_are_compared_as_pip_does() -> None:
    condition = Condition(packages={"FlashInfer_Python": ">=0.6"})
    assert condition.holds(Platform(packages={"flashinfer-python": "0.6.13"}))
    assert Condition(packages={"flashinfer-python": ">=0.6"}).holds(Platform(packages={"FlashInfer.Python": "0.6.13"}))


release = st.lists(st.integers(0, 3), min_size=1, max_size=3).map(lambda parts: ".".join(map(str, parts)))
suffix = st.sampled_from(["", "", "", "a1", "b2", "rc1", ".dev1", ".post1", ".post2", "rc1.dev2"])
version = st.builds(str.__add__, release, suffix)
part = st.one_of(
    st.builds(str.__add__, st.sampled_from([">=", "<=", "<", ">", "==", "!="]), version),
    st.builds("{}{}.*".format, st.sampled_from(["==", "!="]), release),
    st.builds("~={}.{}".format, st.integers(0, 3), version),
)
specifier = st.lists(part, min_size=1, max_size=2).map(",".join)


@given(st.lists(specifier, min_size=1, max_size=3), st.builds(str.__add__, version, st.sampled_from(["", "+cu130"])))
def test_some_sample_stands_for_each_version(specifiers: list[str], found: str) -> None:
    truths = {tuple(version_in(one, sample) for one in specifiers) for sample in version_samples(specifiers)}
    assert tuple(version_in(one, found) for one in specifiers) in truths


@given(
    st.lists(
        st.integers(0, 20) | st.builds("{}{}".format, st.sampled_from([">=", "<=", "<", ">"]), st.integers(0, 20)),
        min_size=1,
        max_size=4,
    ),
    st.integers(1, 30),
)
def test_some_sample_stands_for_each_number(asked: list[int | str], found: int) -> None:
    truths = {tuple(whole_in(one, sample) for one in asked) for sample in whole_samples(asked, 1)}
    assert tuple(whole_in(one, found) for one in asked) in truths


sm = st.tuples(st.integers(0, 99), st.integers(0, 9))
sm_text = sm.map(lambda pair: f"{pair[0]}.{pair[1]}")
patterns = st.one_of(
    sm_text,
    st.integers(0, 99).map("{}.x".format),
    st.just("none"),
    st.lists(st.builds(str.__add__, st.sampled_from([">=", "<=", "<", ">"]), sm_text), min_size=1, max_size=2).map(
        ",".join
    ),
)


@given(st.lists(patterns, min_size=1, max_size=4), st.none() | sm, st.randoms())
def test_some_sample_stands_for_each_compute_capability(
    asked: list[str], found: tuple[int, int] | None, rng: random.Random
) -> None:
    truths = {tuple(sm_in(one, sample) for one in asked) for sample in sm_samples(asked)}
    assert tuple(sm_in(one, found) for one in asked) in truths
    near = [int(text) for pattern in asked for text in re.findall(r"\d+", pattern)] or [10]
    close = (max(0, min(99, rng.choice(near) + rng.randint(-1, 1))), rng.randint(0, 9))
    assert tuple(sm_in(one, close) for one in asked) in truths
