"""What the cases of models on a GPU cover, where each kernel shape costs a build."""

from __future__ import annotations

from collections import Counter

import pytest

from attnconf.cases.drawing.profiles import GEMMA4, profile_named
from attnconf.cases.drawing.space import DTYPES
from attnconf.platforms import simulate
from attnconf.running.build_plan import PLANNED_CASES, asked_shapes, shapes_asked
from attnconf.running.session import Session

HOPPER = simulate("9.0")


@pytest.mark.parametrize("model", GEMMA4)
def test_a_gate_on_a_gpu_asks_every_dtype_and_most_often_the_one_that_models_are_served_in(model: str) -> None:
    session = Session(platform=HOPPER, profile=profile_named("gate"))
    asked: Counter[tuple[str, str]] = Counter()
    for family in ("decode", "extend"):
        asked.update((case.q_dtype, case.kv_dtype) for case in session.drawn.cases(family, model))
    assert set(asked) == {pair for pair in DTYPES if pair[0] != "float32"}
    assert asked["bfloat16", "bfloat16"] >= sum(asked.values()) / 4


def test_shapes_are_planned_for_the_cases_that_are_asked() -> None:
    session = Session(platform=HOPPER, profile=profile_named("gate"))
    drawn = list(session.drawn.cases("decode", "gemma4-31b"))
    assert session.profile.gpu_times * session.profile.examples["decode"] < len(drawn) <= PLANNED_CASES
    asked = frozenset(shape for case in drawn for shape in asked_shapes(case))
    assert frozenset(shapes_asked(session, [("decode", "gemma4-31b")], (), "reference")) == asked
