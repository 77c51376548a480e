"""The table of axes: each has its fields, and the value that is put into a question is read from it again."""

from __future__ import annotations

from typing import Any

import pytest

from attnconf.platforms import Platform
from attnconf.policy.axes import AXES, Axis, package_axis, question_text, settings_text
from attnconf.policy.conditions import Condition, Situation
from attnconf.policy.question import Question, UserChoice

PACKAGE = package_axis("FlashInfer_Cubin")
ASKED: dict[str, list[Any]] = {
    "sm": [("10.x", ">=12.1"), ("none",)],
    "cuda": [">=12.8", "<13"],
    PACKAGE.name: [">=0.6.10.post1"],
    "q_len": [(1, ">=2,<=8")],
    "topk": [("none", 1), (">4",)],
    "page_size": [("none", 16), (">=64",)],
    "deterministic": [("off",), ("on",)],
    "speculative": [("none", "EAGLE")],
}
QUESTION = Question(
    architecture="X",
    platform=Platform(sm=(9, 0), cuda="12.8", packages={"flashinfer.cubin": "0.6.13", "torch": "2.9.1"}),
    q_len=4,
    user=UserChoice(decode="a"),
)


def test_a_condition_has_a_field_for_each_and_for_packages() -> None:
    assert set(Situation.model_fields) == {axis.name for axis in AXES} | {"packages"}
    assert set(Condition.model_fields) == {axis.name for axis in AXES if axis.role == "platform"} | {"packages"}


def test_a_question_has_a_field_for_each_setting() -> None:
    settings = {axis.name for axis in AXES if axis.role == "setting"}
    assert set(Question.model_fields) == settings | {"architecture", "platform", "user"}


@pytest.mark.parametrize("axis", [*AXES, PACKAGE], ids=lambda axis: axis.name)
def test_a_sample_that_is_put_is_read_again_and_nothing_else_changes(axis: Axis[Any, Any]) -> None:
    samples = list(axis.samples(ASKED.get(axis.name, [])))
    assert samples
    for sample in samples:
        found = axis.put(QUESTION, sample)
        assert axis.value_of(found) == sample
        others = [other for other in (*AXES, package_axis("torch"), PACKAGE) if other != axis]
        assert [other.value_of(found) for other in others] == [other.value_of(QUESTION) for other in others]


def test_spellings_of_one_distribution_are_one_axis() -> None:
    assert package_axis("flashinfer.cubin") == PACKAGE
    assert PACKAGE.value_of(QUESTION) == "0.6.13"
    assert PACKAGE.put(QUESTION, None).platform.packages == {"torch": "2.9.1"}


def test_a_question_says_what_differs_from_the_defaults() -> None:
    assert settings_text(Question(architecture="X")) == ""
    asked = QUESTION.model_copy(update={"page_size": 64, "mask": "images"})
    assert settings_text(asked) == "mask images, q_len 4, page_size 64"
    assert question_text(asked) == "X on SM 9.0 with CUDA 12.8, mask images, q_len 4, page_size 64"
