"""What the cases of models on a GPU cover, where each kernel shape costs a build."""

from __future__ import annotations

from collections import Counter

import pytest

from attnconf.cases.drawing.profiles import GEMMA4, profile_named
from attnconf.cases.drawing.space import MODEL_DTYPES
from attnconf.platforms import simulate
from attnconf.running.planned_shapes import PLANNED_CASES, asked_shapes, shapes_asked
from attnconf.running.session import Session

HOPPER = simulate("9.0")


@pytest.mark.parametrize("model", GEMMA4)
def test_a_gate_on_a_gpu_asks_every_dtype_and_most_often_the_one_that_models_are_served_in(model: str) -> None:
    session = Session(platform=HOPPER, profile=profile_named("gate"))
    asked: Counter[str] = Counter()
    for family in ("decode", "extend"):
        asked.update(case.dtypes.text for case in session.drawn.cases(family, model))
    assert set(asked) == {dtypes.text for dtypes in MODEL_DTYPES}
    assert asked["bfloat16"] >= sum(asked.values()) / 4


def test_shapes_are_planned_for_the_cases_that_are_asked() -> None:
    session = Session(platform=HOPPER, profile=profile_named("gate"))
    drawn = list(session.drawn.cases("decode", "gemma4-31b"))
    assert session.profile.gpu_times * session.profile.examples["decode"] < len(drawn) <= PLANNED_CASES
    asked = frozenset(shape for case in drawn for shape in asked_shapes(case))
    assert frozenset(shapes_asked(session, [("decode", "gemma4-31b")], (), "reference")) == asked


def test_every_page_size_that_picks_another_kernel_of_trtllm_gen_is_drawn() -> None:
    """16, 32 and 64 have kernels of their own, and from 128 on one kernel takes any: flashinfer#4347 was above 128."""
    from attnconf.backends.flashinfer.trtllm_mha.capability import supports
    from attnconf.cases.drawing.covering import _ROWS, _shape
    from attnconf.platforms import Platform
    from conformance.tests.support.shapes import a_shape

    b200 = Platform(sm=(10, 0), cuda="13.0", packages={"flashinfer-python": "0.6.13"}, simulated=True)
    drawn = [_shape(row) for row in _ROWS]
    taken = {
        one.page_size
        for one in drawn
        if supports(
            a_shape(
                q_dtype=one.dtypes.q,
                kv_dtype=one.dtypes.kv,
                out_dtype=one.dtypes.out,
                page_size=one.page_size,
                head_dim=one.layers[1].head_dim,
                num_qo_heads=one.layers[1].num_qo_heads,
                num_kv_heads=one.layers[1].num_kv_heads,
                windowed=True,
                window_left=one.layers[1].window_left,
                soft_cap=one.layers[1].logits_soft_cap is not None,
                num_requests=3,
                max_kv_len=900,
            ),
            b200,
        )
        is None
    }
    assert taken == {16, 32, 64, 128, 256}
