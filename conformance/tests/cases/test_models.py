"""The shipped models: their facts, their shards, and what load_model accepts."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from attnconf.cases.case import Case, Layer
from attnconf.cases.geometry import unsharded
from attnconf.cases.models import CPU_QUERY_HEADS, credited_model, load_model, shipped_models
from attnconf.cases.request import Request
from attnconf.errors import InvalidInputError
from attnconf_fixtures import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from attnconf.cases.geometry import LayerGeometry, ModelGeometry

GEMMA4 = {
    # name: (layers per cell kind, q heads, KV heads sliding/full, window)
    "gemma4-e2b": ({"sliding": 12, "full": 3, "sliding-shared": 16, "full-shared": 4}, 8, (1, 1), 512),
    "gemma4-e4b": ({"sliding": 20, "full": 4, "sliding-shared": 15, "full-shared": 3}, 8, (2, 2), 512),
    "gemma4-12b": ({"sliding": 40, "full": 8}, 16, (8, 1), 1024),
    "gemma4-26b-a4b": ({"sliding": 25, "full": 5}, 16, (8, 2), 1024),
    "gemma4-31b": ({"sliding": 50, "full": 10}, 32, (16, 4), 1024),
}

OTHERS = {
    # name: (layers per cell kind, q heads, KV heads, head_dim, window_left, soft cap, sinks)
    "gemma2-9b": ({"sliding": 21, "full": 21}, 16, 8, 256, 4095, 50.0, False),
    "gemma3-12b": ({"sliding": 40, "full": 8}, 16, 8, 256, 1023, None, False),
    "gpt-oss-20b": ({"sliding": 12, "full": 12}, 64, 8, 64, 127, None, True),
    "llama3-8b": ({"full": 32}, 32, 8, 128, None, None, False),
    "mistral-7b": ({"sliding": 32}, 32, 8, 128, 4095, None, False),
    "phi3-mini": ({"sliding": 32}, 32, 32, 96, 2046, None, False),
    "qwen2.5-32b": ({"full": 64}, 40, 8, 128, None, None, False),
    "qwen2.5-7b": ({"full": 28}, 28, 4, 128, None, None, False),
    "command-a": ({"sliding": 48, "full": 16}, 96, 8, 128, 4095, None, False),
    "glm-4.6": ({"full": 92}, 96, 8, 128, None, None, False),
    "gpt-oss-120b": ({"sliding": 18, "full": 18}, 64, 8, 64, 127, None, True),
    "minimax-m2": ({"full": 62}, 48, 8, 128, None, None, False),
    "ministral-3-14b": ({"full": 40}, 32, 8, 128, None, None, False),
    "mistral-small-3.2": ({"full": 40}, 32, 8, 128, None, None, False),
    "olmo-3-32b": ({"sliding": 48, "full": 16}, 40, 8, 128, 4095, None, False),
    "qwen3-next-80b-a3b": ({"full": 12}, 16, 2, 256, None, None, False),
    "qwen3.5-27b": ({"full": 16}, 24, 4, 256, None, None, False),
}

GROUPS = {
    "qwen2.5-7b": {7},
    "qwen2.5-32b": {5},
    "gpt-oss-20b": {8},
    "phi3-mini": {1},
    "gemma4-12b": {2, 16},
    "step-3.5-flash": {8, 12},
}


def of_kind(model: ModelGeometry, kind: str) -> list[LayerGeometry]:
    return [layer for layer in model.layers if layer.kind == kind]


def test_every_shipped_model_has_its_facts_checked_here() -> None:
    own = {"step-3.5-flash", "llama4-scout", "mimo-v2-flash", "embeddinggemma-300m"}
    assert set(shipped_models()) == GEMMA4.keys() | OTHERS.keys() | own


def test_embeddinggemma_sees_256_tokens_on_both_sides_or_all() -> None:
    model = load_model("embeddinggemma-300m")
    found = Counter((one.kind, one.window_left, one.num_qo_heads, one.kv_shape) for one in model.layers)
    assert found == {("full", -1, 3, (1, 256, 256)): 4, ("sliding", 256, 3, (1, 256, 256)): 20}
    assert {(one.bidirectional, one.spans, one.sm_scale) for one in model.layers} == {(True, False, 1 / 16)}


def test_mimo_has_narrower_values_and_other_kv_heads_in_its_sliding_layers() -> None:
    model = load_model("mimo-v2-flash")
    found = Counter((one.kind, one.window_left, one.num_qo_heads, one.kv_shape, one.sinks) for one in model.layers)
    assert found == {("full", -1, 64, (4, 192, 128), False): 9, ("sliding", 128, 64, (8, 192, 128), True): 39}
    assert {one.sm_scale for one in model.layers} == {192**-0.5}
    assert [place for place, one in enumerate(model.layers) if one.kind == "full"] == [0, 5, 11, 17, 23, 29, 35, 41, 47]


def test_llama_4_has_three_chunked_layers_to_a_full_one() -> None:
    model = load_model("llama4-scout")
    kinds = Counter((one.kind, one.chunk_size) for one in model.layers)
    assert kinds == {("chunked", 8192): 36, ("full", None): 12}
    assert {(one.num_qo_heads, one.num_kv_heads, one.head_dim, one.sm_scale) for one in model.layers} == {
        (40, 8, 128, 128**-0.5)
    }
    assert [one.kind for one in model.layers[:4]] == ["chunked", "chunked", "chunked", "full"]


def test_step_has_more_query_heads_in_its_sliding_layers() -> None:
    model = load_model("step-3.5-flash")
    shapes = Counter((one.kind, one.num_qo_heads, one.num_kv_heads, one.window_left) for one in model.layers)
    assert shapes == {("full", 64, 8, -1): 12, ("sliding", 96, 8, 511): 33}


@pytest.mark.parametrize("name", sorted(GEMMA4))
def test_gemma4(name: str) -> None:
    kinds, num_qo_heads, num_kv_heads, window = GEMMA4[name]
    model = load_model(name)
    assert Counter(layer.cell_kind for layer in model.layers) == kinds
    assert model.cell_kinds == tuple(sorted(kinds))
    assert {layer.num_qo_heads for layer in model.layers} == {num_qo_heads}
    sliding, full = of_kind(model, "sliding"), of_kind(model, "full")
    assert {(layer.num_kv_heads, layer.head_dim, layer.window_left) for layer in sliding} == {
        (num_kv_heads[0], 256, window - 1)
    }
    assert {(layer.num_kv_heads, layer.head_dim, layer.window_left) for layer in full} == {(num_kv_heads[1], 512, -1)}
    assert {layer.sm_scale for layer in model.layers} == {1.0}
    assert {layer.logits_soft_cap for layer in model.layers} == {None}
    assert model.layers[-1].kind == "full"


@pytest.mark.parametrize(("name", "sliding", "full"), [("gemma4-e2b", 13, 14), ("gemma4-e4b", 22, 23)])
def test_shared_layers_read_the_last_own_layer_of_their_kind(name: str, sliding: int, full: int) -> None:
    model = load_model(name)
    shared = [layer for layer in model.layers if layer.kv_owner is not None]
    assert {(layer.kind, layer.kv_owner) for layer in shared} == {("sliding", sliding), ("full", full)}
    assert [layer.kv_owner for layer in model.layers[: full + 1]] == [None] * (full + 1)
    assert len(model.case_layers()) == 4


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_other_models(name: str) -> None:
    kinds, num_qo_heads, num_kv_heads, head_dim, window_left, soft_cap, sinks = OTHERS[name]
    model = load_model(name)
    assert Counter(layer.cell_kind for layer in model.layers) == kinds
    assert {(layer.num_qo_heads, layer.num_kv_heads, layer.head_dim) for layer in model.layers} == {
        (num_qo_heads, num_kv_heads, head_dim)
    }
    assert {layer.sm_scale for layer in model.layers} == {head_dim**-0.5}
    assert {layer.window_left for layer in of_kind(model, "sliding")} <= {window_left}
    assert {layer.logits_soft_cap for layer in model.layers} == {soft_cap}
    assert {layer.sinks for layer in model.layers} == {sinks}


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("gemma4-12b", {"sliding"}),
        ("gemma4-26b-a4b", {"sliding"}),
        ("gemma4-31b", {"sliding"}),
        ("gemma4-e2b", set()),
        ("gemma4-e4b", set()),
        ("gemma3-12b", {"sliding", "full"}),
        ("gemma2-9b", set()),
        ("mistral-small-3.2", set()),
    ],
)
def test_layers_that_follow_the_spans_of_images(name: str, kinds: set[str]) -> None:
    assert {layer.kind for layer in load_model(name).layers if layer.spans} == kinds


@pytest.mark.parametrize("name", sorted(GROUPS))
def test_group_sizes(name: str) -> None:
    assert {layer.group_size for layer in load_model(name).layers} == GROUPS[name]


@pytest.mark.parametrize("name", shipped_models())
def test_every_file_says_where_its_facts_come_from(name: str) -> None:
    data = json.loads((ROOT / "models" / f"{name}.json").read_text())
    assert data["provenance"].keys() >= {"model", "facts", "rules"}
    model = load_model(name)
    assert model.provenance
    assert model.architectures == tuple(data["architectures"])
    assert model.name == name


SHARDS = [(name, tp) for name in shipped_models() for tp in (1, 2, 4) if load_model(name).splits(tp)]


def test_all_models_are_split_but_one_of_three_heads() -> None:
    assert {name for name in shipped_models() if (name, 4) not in SHARDS} == {"embeddinggemma-300m"}


@pytest.mark.parametrize(("name", "tp"), SHARDS)
def test_shards_keep_dims_windows_and_owners(name: str, tp: int) -> None:
    model = load_model(name)
    shard = model.shard(tp)
    assert shard.name == (name if tp == 1 else f"{name}@tp{tp}")
    for whole, part in zip(model.layers, shard.layers, strict=True):
        assert part.num_qo_heads * tp == whole.num_qo_heads
        assert part.num_kv_heads == max(1, whole.num_kv_heads // tp)
        assert part.num_qo_heads % part.num_kv_heads == 0
        changed = {"num_qo_heads", "num_kv_heads"}
        assert part.model_dump(exclude=changed) == whole.model_dump(exclude=changed)
    type(shard).model_validate(shard.model_dump())


@pytest.mark.parametrize("name", sorted(GROUPS))
def test_a_slice_keeps_groups_dims_windows_and_owners_and_counts_for_its_model(name: str) -> None:
    model = load_model(name)
    few = model.slice(CPU_QUERY_HEADS)
    assert unsharded(few.name) == name
    assert (few == model) is (few.name == name)
    for whole, part in zip(model.layers, few.layers, strict=True):
        assert part.group_size == whole.group_size
        assert part.num_qo_heads <= max(CPU_QUERY_HEADS, whole.group_size)
        changed = {"num_qo_heads", "num_kv_heads"}
        assert part.model_dump(exclude=changed) == whole.model_dump(exclude=changed)
    case = Case(
        mode="decode",
        model=few.name,
        layers=(Layer.model_validate(few.layers[0].model_dump()),),
        requests=(Request(prefix_len=3),),
    )
    assert credited_model(case) == few.name
    other = case.layers[0].model_copy(update={"head_dim": 40})
    assert credited_model(case.model_copy(update={"layers": (other,)})) == "free"


@pytest.mark.parametrize("tp", [0, -1, 3, 16])
def test_a_shard_that_does_not_divide_is_refused(tp: int) -> None:
    with pytest.raises(ValueError, match=f"8 query and 1 KV heads cannot be split over tp={tp}"):
        load_model("gemma4-e2b").shard(tp)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        InvalidInputError, match=r"^model: 'gemma5'; allowed: a path to a config.json, or one of command-a"
    ):
        load_model("gemma5")


@pytest.mark.parametrize("name", ["", "\0", "x" * 5000, "no/such/config.json"])
def test_odd_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidInputError):
        load_model(name)


def test_a_file_and_a_checkpoint_folder_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text((ROOT / "models" / "llama3-8b.json").read_text())
    assert load_model(str(folder)) == load_model(str(folder / "config.json"))
    assert load_model(str(folder)).name == "my-model"
    assert load_model(str(folder)).layers == load_model("llama3-8b").layers


def test_a_geometry_file_is_read(tmp_path: Path) -> None:
    model = load_model("gemma4-e2b")
    path = tmp_path / "geometry.json"
    path.write_text(json.dumps(model.to_data()))
    assert load_model(str(path)) == model
