"""Sight: what a row sees of a window and of a span, where a chunk ends, and what is no span."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from attnconf.cases.case import Case, Layer
from attnconf.cases.inputs.assemble import assemble
from attnconf.cases.inputs.batch import BatchRow
from attnconf.cases.inputs.layout import place
from attnconf.cases.inputs.logical import make_logical
from attnconf.cases.models import credited_model, load_model
from attnconf.cases.request import Request
from attnconf.cases.shape import batch_shape, kernel_shape
from attnconf.cases.sight import Seen, seen

FULL = Layer(kind="full", num_qo_heads=2, num_kv_heads=1, head_dim=16, sm_scale=1.0, spans=True)
SLIDING = FULL.model_copy(update={"kind": "sliding", "window_left": 3})
IMAGE = Request(prefix_len=10, new_tokens=10, spans=((8, 16), (16, 24)))


def batch_of(case: Case) -> Any:  # noqa: ANN401 - a Batch
    return assemble(case, place(case), make_logical(case), torch.device("cpu"))


def test_a_row_sees_its_span_as_far_as_it_is_there_and_no_other() -> None:
    assert [seen(FULL, IMAGE, row).last for row in range(10)] == [15] * 6 + [19] * 4
    assert seen(FULL, IMAGE, 0) == Seen(position=10, first=0, last=15)
    assert [seen(SLIDING, IMAGE, row)[1:3] for row in (0, 5, 6)] == [(7, 15), (12, 15), (13, 19)]
    causal = FULL.model_copy(update={"spans": False})
    assert [seen(causal, IMAGE, row).last for row in range(10)] == list(range(10, 20))


def test_a_row_of_a_chunked_layer_sees_its_chunk_alone() -> None:
    """The first row of a chunk sees one key, the last one all; chunks count from the request's first token."""
    layer = Layer(kind="chunked", chunk_size=8, num_qo_heads=2, num_kv_heads=1, head_dim=16, sm_scale=1.0)
    request = Request(prefix_len=5, new_tokens=13)
    assert [seen(layer, request, row)[1:3] for row in (0, 2, 3, 10, 11)] == [(0, 5), (0, 7), (8, 8), (8, 15), (16, 16)]
    assert (layer.reach, FULL.reach, SLIDING.reach) == (7, -1, 3)
    assert layer.cell_kind == "chunked"


def test_a_chunk_border_within_a_span_hides_the_rest_of_it() -> None:
    """The second chunk sees all of the image, and the first one only what is there."""
    whole = Request(new_tokens=12, spans=((2, 9),))
    first = whole.resized(0, 6)
    assert first.spans == whole.spans
    assert seen(FULL, first, 3).last == 5
    assert seen(FULL, whole, 3).last == 8
    assert seen(FULL, Request(prefix_len=6, new_tokens=6, spans=whole.spans), 0) == Seen(6, 0, 8)
    assert whole.resized(0, 2).spans == ()


@pytest.mark.parametrize(
    ("spans", "sentence"),
    [
        (((3, 3),), "not \\[3, 3\\) behind token 0"),
        (((4, 8), (6, 9)), "not \\[6, 9\\) behind token 8"),
        (((9, 12), (2, 4)), "not \\[2, 4\\) behind token 12"),
        (((20, 22),), "begin among the request's 20 tokens, not at 20"),
    ],
)
def test_what_is_no_span_is_refused(spans: tuple[tuple[int, int], ...], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Request(prefix_len=10, new_tokens=10, spans=spans)


def test_a_batch_holds_the_span_of_each_row_and_a_part_of_it_its_own() -> None:
    case = Case(mode="extend", layers=(FULL,), requests=(Request(new_tokens=2), IMAGE))
    batch = batch_of(case)
    assert batch.row_spans.tolist() == [[0, 0]] * 2 + [[8, 16]] * 6 + [[16, 24]] * 4
    assert "row_spans" in dict(batch.tensors())
    part = batch.derive([BatchRow(1, 5, 7, 17)], "extend")
    assert part.row_spans.tolist() == [[8, 16], [16, 24]]
    assert batch.derive([BatchRow(1, 9, 10, 20, 16)], "decode").row_spans.tolist() == [[0, 8]]


def test_a_shape_has_spans_where_a_row_lies_in_one_that_the_layer_follows() -> None:
    causal = FULL.model_copy(update={"spans": False})
    cached = Request(prefix_len=10, spans=((2, 6),))
    for layer, request, wanted in ((FULL, IMAGE, True), (causal, IMAGE, False), (FULL, cached, False)):
        case = Case(mode="extend", layers=(layer,), requests=(request,))
        assert kernel_shape(case, 0).spans is wanted
        assert batch_shape(batch_of(case), 0).spans is wanted


def test_an_older_case_without_spans_is_still_credited_to_its_model() -> None:
    layer = Layer.model_validate(load_model("gemma4-31b").slice(4).case_layers()[0].model_dump())
    assert layer.spans
    older = layer.model_copy(update={"spans": False})
    name = load_model("gemma4-31b").slice(4).name
    plain, image = Request(new_tokens=4), Request(new_tokens=4, spans=((0, 3),))
    made = [
        Case(model=name, mode="extend", layers=(one,), requests=(request,))
        for one in (layer, older)
        for request in (plain, image)
    ]
    assert [credited_model(case) for case in made] == [name, name, name, "free"]
