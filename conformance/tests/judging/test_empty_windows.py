"""A window of one key that loses it: what each row is left with."""

from __future__ import annotations

import math

import pytest
import torch

from attnconf.cases.case import Case, Layer, Paging
from attnconf.cases.request import Request
from attnconf.judging.mistakes import MISTAKES, answers_to
from attnconf.judging.mistakes.scene import Scene
from attnconf.judging.posed import PosedCase
from attnconf.oracle.problem import Answer

NARROW = Layer(kind="sliding", window_left=0, num_qo_heads=6, num_kv_heads=3, head_dim=64, sm_scale=0.5)
LESS = next(mistake for mistake in MISTAKES if mistake.name == "window one less")


def scene_of(layer: Layer, request: Request) -> Scene:
    case = Case(mode="extend", layers=(layer,), requests=(request,), paging=Paging(page_size=8))
    return PosedCase(case, torch.device("cpu")).scene(0, 0)


def answer_to(scene: Scene) -> Answer:
    mistaken = LESS.apply(scene)
    assert mistaken is not None
    return answers_to([mistaken])[0]


def test_a_row_is_left_with_the_rest_of_its_span() -> None:
    layer = NARROW.model_copy(update={"spans": True})
    scene = scene_of(layer, Request(prefix_len=5, new_tokens=4, spans=((6, 8),)))
    answer = answer_to(scene)
    assert (answer.lse == -math.inf).all(dim=1).tolist() == [True, False, True, True]
    torch.testing.assert_close(answer.out[1], scene.problem.values[7][scene.problem.kv_head_of])


@pytest.mark.parametrize("changes", [{"bidirectional": True}, {}], ids=["bidirectional", "causal"])
def test_no_row_is_left_with_a_key(changes: dict[str, bool]) -> None:
    answer = answer_to(scene_of(NARROW.model_copy(update=changes), Request(prefix_len=5, new_tokens=4)))
    assert not answer.out.any()
