"""Geometry: what a layer and a model may be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnconf.cases.geometry import LayerGeometry, ModelGeometry, first_visible, unsharded
from attnconf.errors import InvalidInputError

LAYER: dict[str, Any] = {
    "kind": "sliding",
    "window_left": 511,
    "num_qo_heads": 8,
    "num_kv_heads": 2,
    "head_dim": 64,
    "sm_scale": 0.125,
}
FULL: dict[str, Any] = {**LAYER, "kind": "full", "window_left": -1}


def read(**change: Any) -> LayerGeometry:  # noqa: ANN401 - wrong types are the point
    return LayerGeometry.from_data({**LAYER, **change}, "test")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head_dim": 0}, "test: head_dim is 0"),
        ({"head_dim_v": 0}, "test: head_dim_v is 0"),
        (
            {"head_dim_v": 513},
            "head_dim_v 513 is above head_dim 64: no kernel has wider values but under a head_dim up",
        ),
        ({"head_dim": 128, "head_dim_v": 192}, "head_dim_v 192 is above head_dim 128: no kernel has wider values but"),
        ({"num_kv_heads": 3}, "num_qo_heads 8 is not a multiple of num_kv_heads 3"),
        ({"window_left": -2}, "test: window_left is -2"),
        ({"window_left": -1}, "a sliding layer needs a window"),
        ({"kind": "full"}, "a full layer has no window, but window_left is 511"),
        ({"kind": "blocked"}, "test: kind is 'blocked'"),
        ({"kind": "chunked"}, "a chunked layer has a chunk_size and no other has, but chunked has None"),
        ({"chunk_size": 64}, "a chunked layer has a chunk_size and no other has, but sliding has 64"),
        ({"kind": "chunked", "chunk_size": 64}, "a chunked layer has no window and follows no spans"),
        ({"kind": "chunked", "chunk_size": 0}, "test: chunk_size is 0"),
        ({"sm_scale": 0}, "test: sm_scale is 0"),
        ({"sm_scale": float("nan")}, "test: sm_scale is nan"),
        ({"logits_soft_cap": -1}, "test: logits_soft_cap is -1"),
        ({"head_dim": "64"}, "test: head_dim is '64'"),
        ({"head_dim": True}, "test: head_dim is True"),
        ({"head_dim": 10**30}, "test: head_dim is 1000"),
        ({"colour": 1}, "test: colour is 1"),
    ],
)
def test_a_wrong_layer_is_one_sentence(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read(**change)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([LAYER, {**LAYER, "kv_owner": 1}], "layer 1: kv_owner 1 is not an earlier layer"),
        ([LAYER, {**LAYER, "kv_owner": 0}, {**LAYER, "kv_owner": 1}], "layer 2: kv_owner 1 owns no KV itself"),
        ([LAYER, {**FULL, "kv_owner": 0}], "a full layer cannot read the KV of the sliding layer 0"),
        ([LAYER, {**LAYER, "num_kv_heads": 4, "kv_owner": 0}], "num_kv_heads and head_dim differ"),
        ([], "layers is []"),
    ],
)
def test_a_wrong_owner_is_one_sentence(layers: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        ModelGeometry.from_data({"name": "m", "layers": layers}, "test")
    assert message in str(caught.value)


def test_cell_kinds() -> None:
    layers = [LAYER, FULL, {**LAYER, "kv_owner": 0}, {**FULL, "kv_owner": 1}]
    model = ModelGeometry.from_data({"name": "m", "layers": layers}, "test")
    assert [layer.cell_kind for layer in model.layers] == ["sliding", "full", "sliding-shared", "full-shared"]
    assert [layer.group_size for layer in model.layers] == [4] * 4


@given(st.lists(st.sampled_from([LAYER, FULL, {**LAYER, "window_left": 3}]), min_size=1, max_size=8), st.data())
def test_case_layers_are_distinct_and_own_or_point_back(layers: list[dict[str, Any]], data: st.DataObject) -> None:
    layers = [dict(layer) for layer in layers]
    for index, layer in enumerate(layers):
        owners = [i for i in range(index) if layers[i]["kind"] == layer["kind"] and "kv_owner" not in layers[i]]
        owner: int | None = data.draw(st.sampled_from([None, *owners]))
        if owner is not None:
            layer["kv_owner"] = owner
    model = ModelGeometry.from_data({"name": "m", "layers": layers}, "test")
    chosen = model.case_layers()
    assert len(set(chosen)) == len(chosen)
    assert {layer.cell_kind for layer in chosen} == set(model.cell_kinds)
    ModelGeometry(name="m", layers=chosen)


@pytest.mark.parametrize(
    ("name", "model"), [("a@tp4", "a"), ("a", "a"), ("a@tp4@tp2", "a@tp4"), ("a@tp", "a@tp"), ("x@tp4-b", "x@tp4-b")]
)
def test_unsharded(name: str, model: str) -> None:
    assert unsharded(name) == model


@pytest.mark.parametrize(
    ("position", "window_left", "first"), [(9, -1, 0), (9, 0, 9), (9, 3, 6), (9, 9, 0), (9, 10, 0)]
)
def test_a_window_of_w_shows_a_query_its_own_key_and_w_before_it(position: int, window_left: int, first: int) -> None:
    assert first_visible(position, window_left) == first
