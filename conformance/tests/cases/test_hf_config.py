"""Reading config.json: the dialects, the refusals, and 500 mutated files."""

from __future__ import annotations

import copy
import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from attnconf.cases.geometry import ModelGeometry
from attnconf.cases.hf_config import model_from_config, read_model
from attnconf.cases.models import load_model
from attnconf.errors import AttnconfError, InvalidInputError
from attnconf_fixtures import ROOT

if TYPE_CHECKING:
    from pathlib import Path

BASE: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
}
GEMMA4: dict[str, Any] = {
    **BASE,
    "model_type": "gemma4_text",
    "head_dim": 32,
    "global_head_dim": 64,
    "sliding_window": 9,
}


def read(data: object) -> ModelGeometry:
    return model_from_config(data, "config.json", "m")


def kinds(data: object) -> str:
    return "".join(layer.kind[0] for layer in read(data).layers)


def test_plain_defaults() -> None:
    layer = read(BASE).layers[0]
    assert (layer.kind, layer.head_dim, layer.num_kv_heads, layer.sm_scale) == ("full", 64, 2, 0.125)
    assert read({**BASE, "num_key_value_heads": None}).layers[0].num_kv_heads == 8


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"model_type": "gemma2"}, "sfsf"),
        ({"model_type": "gemma3_text", "sliding_window_pattern": 2}, "sfsf"),
        ({"model_type": "gemma3_text", "_sliding_window_pattern": 3}, "ssfs"),
        ({"model_type": "gemma3_text"}, "ssss"),
        ({"model_type": "gemma4_text"}, "sssf"),
        ({"model_type": "gpt_oss"}, "sfsf"),
        ({"model_type": "mistral", "sliding_window": 16}, "ssss"),
        ({"model_type": "mistral"}, "ssss"),
        ({"model_type": "mistral", "sliding_window": None}, "ffff"),
        ({"model_type": "phi3"}, "ffff"),
        ({"model_type": "qwen2", "sliding_window": 16, "max_window_layers": 2}, "ffff"),
        ({"model_type": "qwen2", "sliding_window": 16, "max_window_layers": 2, "use_sliding_window": True}, "ffss"),
        ({"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"] * 2}, "sfsf"),
        ({"sliding_window": 4, "sliding_window_pattern": 4}, "sssf"),
        ({"model_type": None, "architectures": ["Gemma2ForCausalLM"]}, "sfsf"),
    ],
)
def test_layer_kinds(change: dict[str, Any], expected: str) -> None:
    assert kinds({**BASE, **change}) == expected


def test_a_sliding_window_of_w_is_window_left_w_minus_1() -> None:
    assert read({**BASE, "model_type": "mistral", "sliding_window": 1}).layers[0].window_left == 0


def test_query_pre_attn_scalar_and_soft_cap() -> None:
    layer = read({**BASE, "model_type": "gemma2", "query_pre_attn_scalar": 144}).layers[0]
    assert (layer.sm_scale, layer.logits_soft_cap) == (144**-0.5, 50.0)
    assert read({**BASE, "model_type": "gemma2", "attn_logit_softcapping": None}).layers[0].logits_soft_cap is None
    assert read({**BASE, "attn_logit_softcapping": 30}).layers[0].logits_soft_cap == 30.0


def test_text_config_and_flat_files_agree() -> None:
    assert read({"model_type": "gemma4", "text_config": GEMMA4}) == read(GEMMA4)


@pytest.mark.parametrize(("k_eq_v", "expected"), [(True, 1), (False, 2), (None, 2)])
def test_attention_k_eq_v_gates_the_global_kv_heads(k_eq_v: bool | None, expected: int) -> None:  # noqa: FBT001
    model = read({**GEMMA4, "num_global_key_value_heads": 1, "attention_k_eq_v": k_eq_v})
    assert [layer.num_kv_heads for layer in model.layers] == [2, 2, 2, expected]
    assert [layer.head_dim for layer in model.layers] == [32, 32, 32, 64]
    assert {layer.sm_scale for layer in model.layers} == {1.0}


@pytest.mark.parametrize("name", ["gemma4-31b", "gemma4-e2b"])
def test_per_layer_config_says_the_same_as_the_older_fields(name: str) -> None:
    data = json.loads((ROOT / "models" / f"{name}.json").read_text())
    text = data["text_config"]
    override = {"head_dim": text.pop("global_head_dim")}
    heads = text.pop("num_global_key_value_heads")
    if text["attention_k_eq_v"]:
        override["num_key_value_heads"] = heads
    text["per_layer_config"] = {
        str(index): override for index, kind in enumerate(text["layer_types"]) if kind == "full_attention"
    }
    assert model_from_config(data, "f", name).layers == load_model(name).layers


def test_per_layer_config_may_change_one_window_and_head_count() -> None:
    data = {**BASE, "model_type": "mistral", "sliding_window": 8}
    model = read({**data, "per_layer_config": {"1": {"sliding_window": 4, "num_attention_heads": 4, "head_dim": 16}}})
    assert [layer.window_left for layer in model.layers] == [7, 3, 7, 7]
    assert [layer.num_qo_heads for layer in model.layers] == [8, 4, 8, 8]


LLAMA_TYPES = ["sliding_attention"] * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_key_value_heads": 3}, "num_key_value_heads is 3; allowed: a divisor of num_attention_heads, 8"),
        ({"head_dim": 0}, "head_dim is 0; allowed: a whole number from 1 to 65536"),
        ({"num_attention_heads": 6}, "hidden_size is 512; allowed: a multiple of num_attention_heads, 6"),
        ({"model_type": "mistral", "sliding_window": -2}, "sliding_window is -2; allowed: a whole number from 1"),
        ({"model_type": "mistral", "sliding_window": 0}, "sliding_window is 0"),
        ({"num_hidden_layers": None}, "num_hidden_layers is missing; allowed: a whole number from 1 to 1024"),
        ({"num_hidden_layers": 10**12}, "num_hidden_layers is 1000000000000"),
        ({"num_hidden_layers": True}, "num_hidden_layers is True"),
        ({"num_attention_heads": "8"}, "num_attention_heads is '8'"),
        ({"num_attention_heads": 8.0}, "num_attention_heads is 8.0"),
        ({"num_attention_heads": [8]}, "num_attention_heads is [8]"),
        ({"hidden_size": None}, "head_dim is missing; allowed: head_dim, or hidden_size to divide"),
        ({"layer_types": LLAMA_TYPES}, "layer_types is 3 long; allowed: as many as num_hidden_layers, 4"),
        (
            {"layer_types": ["linear_attention"] * 4},
            "layer_types is 'linear_attention'; allowed: an attention layer at",
        ),
        ({"layer_types": ["hyena"] * 4}, "layer_types is 'hyena'; allowed: sliding_attention or full_attention or"),
        ({"layer_types": "full_attention"}, "layer_types is 'full_attention'; allowed: a list of strings"),
        ({"layer_types": ["sliding_attention"] * 4}, "sliding_window is missing; allowed: a whole number of 1 or more"),
        ({"sliding_window": 16}, "layer_types is missing; allowed: layer_types, to say which layers"),
        ({"num_kv_shared_layers": 4}, "num_kv_shared_layers is 4; allowed: fewer than num_hidden_layers, 4"),
        ({"num_kv_shared_layers": -1}, "num_kv_shared_layers is -1"),
        ({"attn_logit_softcapping": float("inf")}, "attn_logit_softcapping is inf; allowed: a number above 0"),
        ({"attn_logit_softcapping": True}, "attn_logit_softcapping is True"),
        ({"query_pre_attn_scalar": float("nan")}, "query_pre_attn_scalar is nan"),
        ({"kv_lora_rank": 512}, "kv_lora_rank is 512; allowed: none: latent attention"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention is True; allowed: none"),
        ({"per_layer_config": {"4": {}}}, "per_layer_config is '4'; allowed: layer numbers from 0 to 3"),
        ({"per_layer_config": {"1": {"head_dim": 0}}}, "per_layer_config.1.head_dim is 0"),
        ({"per_layer_config": {"1": {"skip": ["attention"]}}}, "per_layer_config.1.skip is ['attention']"),
        ({"per_layer_config": [1]}, "per_layer_config is [1]; allowed: an object"),
        ({"v_head_dim": 640}, "v_head_dim is 640; allowed: up to 512: no kernel has values that are so much wider"),
        ({"head_dim": 80, "v_head_dim": 96}, "v_head_dim is 96; allowed: up to head_dim, 80: no kernel has values"),
        ({"v_head_dim": 0}, "v_head_dim is 0"),
        ({"v_head_dim": 32, "head_dim_v": 48}, "head_dim_v is 48; allowed: what v_head_dim says, 32"),
        ({"head_dim": 64, "kv_channels": 32}, "kv_channels is 32; allowed: what head_dim says, 64"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder is True; allowed: none: an encoder attends"),
        ({"is_causal": False}, "is_causal is False; allowed: true: attention here is causal"),
        ({"is_decoder": False}, "is_decoder is False; allowed: true: attention here is causal"),
        ({"model_type": "bert"}, "is_decoder is missing; allowed: true: attention here is causal"),
        ({"model_type": "bert", "is_decoder": False, "num_beams": 1}, "is_decoder is False; allowed: true"),
        ({"position_embedding_type": "alibi"}, "position_embedding_type is 'alibi'; allowed: none that adds a bias"),
        ({"model_type": "bloom"}, "model_type is 'bloom'; allowed: none: ALiBi adds a bias"),
        ({"num_attention_heads_per_layer": [8, 8]}, "num_attention_heads_per_layer is [8, 8]; allowed: a list of 4"),
        ({"hybrid_layer_pattern": [0, 1, 2, 0]}, "hybrid_layer_pattern is [0, 1, 2, 0]; allowed: a list of 0 and 1"),
        ({"hybrid_override_pattern": "M*X-"}, "hybrid_override_pattern is 'X'; allowed: one of M - E *"),
        ({"sliding_window": 4, "sliding_window_pattern": "LXG"}, "sliding_window_pattern is 'LXG'; allowed: a whole"),
        ({"attn_layer_indices": [4]}, "attn_layer_indices is [4]; allowed: a list of layer numbers from 0 to 3"),
        ({"sparse_attention_config": {"topk": 3}}, "sparse_attention_config is {'topk': 3}; allowed: none: this field"),
        ({"text_config": 7}, "text_config is 7; allowed: an object"),
        ({"architectures": "Llama"}, "architectures is 'Llama'; allowed: a list of strings"),
        ({"model_type": 3}, "model_type is 3; allowed: a string"),
        ({"model_type": "gemma2", "num_kv_shared_layers": 3}, "num_kv_shared_layers is 3; allowed: fewer: no full"),
    ],
)
def test_a_wrong_file_is_one_sentence(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read({**BASE, **change})
    assert str(caught.value).startswith(f"config.json: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"layer_types": ["linear_attention", "full_attention"] * 2}, "ff"),
        ({"layers_block_type": ["mamba", "attention", "mamba", "mlp"]}, "f"),
        ({"hybrid_override_pattern": "M-*E", "num_hidden_layers": None}, "f"),
        ({"hybrid_layer_pattern": [0, 1, 1, 0], "sliding_window": 4}, "fssf"),
        ({"attn_type_list": [1, 0, 1, 0]}, "ff"),
        ({"full_attention_interval": 2}, "ff"),
        ({"model_type": "qwen3_next"}, "f"),
        ({"attn_layer_indices": [3]}, "f"),
        ({"attn_layer_period": 2, "attn_layer_offset": 1}, "ff"),
        ({"block_types": ["recurrent", "attention"], "attention_window_size": 8}, "ss"),
        ({"sliding_window_pattern": "LG", "sliding_window": 4}, "sfsf"),
        ({"layer_switch": 2, "sliding_window": 4}, "sfsf"),
        ({"global_attn_every_n_layers": 4, "sliding_window": 4}, "sssf"),
        ({"layer_types": ["full_attention"] * 6, "num_nextn_predict_layers": 2}, "ffff"),
        ({"sliding_window": 0, "use_sliding_window": False}, "ffff"),
    ],
)
def test_layers_that_are_no_attention_are_left_out(change: dict[str, Any], expected: str) -> None:
    assert kinds({**BASE, **change}) == expected


def test_heads_may_differ_by_layer_and_by_kind() -> None:
    lists = {"num_attention_heads_per_layer": [8, 4, 8, 2], "head_dim": 16}
    assert [layer.num_qo_heads for layer in read({**BASE, **lists}).layers] == [8, 4, 8, 2]
    swa = {"swa_num_attention_heads": 16, "swa_num_key_value_heads": 4, "swa_head_dim": 32, "sliding_window": 4}
    model = read({**BASE, **swa, "layer_types": ["sliding_attention", "full_attention"] * 2})
    assert [(one.num_qo_heads, one.num_kv_heads, one.head_dim) for one in model.layers] == [(16, 4, 32), (8, 2, 64)] * 2
    sinks = {"add_swa_attention_sink_bias": True, "add_full_attention_sink_bias": False, "sliding_window": 4}
    model = read({**BASE, **sinks, "layer_types": ["sliding_attention", "full_attention"] * 2})
    assert [layer.sinks for layer in model.layers] == [True, False] * 2


@pytest.mark.parametrize(
    ("changes", "outer", "followed"),
    [
        ({"model_type": "gemma4_text", "use_bidirectional_attention": "vision"}, {"model_type": "gemma4"}, {"sliding"}),
        ({"model_type": "gemma4_text", "use_bidirectional_attention": None}, {"model_type": "gemma4"}, set()),
        ({"model_type": "gemma4_text"}, {"model_type": "gemma4"}, set()),
        ({"model_type": "gemma4_unified_text"}, {"model_type": "gemma4_unified"}, {"sliding"}),
        (
            {"model_type": "gemma4_unified_text", "use_bidirectional_attention": None},
            {"model_type": "gemma4_unified"},
            set(),
        ),
        ({"model_type": "gemma3_text", "sliding_window_pattern": 2}, {"model_type": "gemma3"}, {"sliding", "full"}),
        ({"model_type": "gemma3_text"}, None, set()),
    ],
)
def test_which_layers_follow_the_spans_of_images(
    changes: dict[str, object], outer: dict[str, object] | None, followed: set[str]
) -> None:
    text = {**BASE, "head_dim": 64, "global_head_dim": 64, "sliding_window": 4, **changes}
    model = read(text if outer is None else {**outer, "text_config": text})
    assert {layer.kind for layer in model.layers if layer.spans} == followed


@pytest.mark.parametrize(("window", "reach"), [(4, 2), (5, 2), (512, 256)])
def test_an_embedding_model_of_gemma_3_sees_half_its_window_on_both_sides(window: int, reach: int) -> None:
    """transformers 5.23 halves it (``Gemma3TextConfig``), and lets a row see |i - j| < W // 2 + 1."""
    text = {**BASE, "model_type": "gemma3_text", "sliding_window_pattern": 2, "sliding_window": window}
    model = read({**text, "use_bidirectional_attention": True})
    assert all(layer.bidirectional for layer in model.layers)
    assert [layer.window_left for layer in model.layers] == [reach, -1, reach, -1]
    assert not any(layer.bidirectional for layer in read({**text, "use_bidirectional_attention": False}).layers)


def test_vision_is_refused_where_no_rule_of_it_is_known() -> None:
    with pytest.raises(InvalidInputError, match="use_bidirectional_attention is 'vision'; allowed: none"):
        read({**BASE, "use_bidirectional_attention": "vision"})


@pytest.mark.parametrize(
    "names",
    [
        {"n_layer": 4, "n_head": 8, "n_embd": 512},
        {"n_layers": 4, "n_heads": 8, "d_model": 512, "num_kv_heads": 8},
        {"num_hidden_layers": 4, "num_attention_heads": 8, "num_attention_groups": 8, "attention_head_dim": 64},
        {"num_hidden_layers": 4, "num_attention_heads": 8, "num_query_groups": 8, "kv_channels": 64},
    ],
)
def test_other_names_of_the_same_thing(names: dict[str, Any]) -> None:
    layers = read({"model_type": "other", **names}).layers
    assert [(one.num_qo_heads, one.num_kv_heads, one.head_dim) for one in layers] == [(8, 8, 64)] * 4


@pytest.mark.parametrize(
    "name",
    [
        *(
            "use_cla",
            "attn_window",
            "window_layers",
            "sliding_windows",
            "local_layers",
            "cross_layer_kv",
            "kv_share_map",
        ),
        *(
            "attention_sink_size",
            "param_sink_number",
            "alibi",
            "use_alibi",
            "chunked_prefill_attention",
            "dual_chunk_size",
        ),
        *("sparse_topk", "indexer_heads", "index_n_heads", "global_layers", "head_dims", "qk_nope_dim", "v_channels"),
        *("layer_pattern", "mixer_types", "share_every", "attn_logit_cap", "swa_layers", "causal_span", "mqa"),
        *(
            "latent_size",
            "hidden_size_per_head",
            "num_kv_groups",
            "kv_rank",
            "attention_scaling",
            "query_multiplier",
            "attention_softmax_scale",
            "attention_groups",
            "num_heads",
            "yoco",
            "bidirectional",
            "compress_ratio",
            "lightning_attention",
        ),
    ],
)
def test_a_field_that_sounds_like_attention_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^config.json: {name} is 3; allowed: none: this field sounds like"):
        read({**BASE, name: 3})
    for nothing in (None, False, 0, "", [], {}):
        assert read({**BASE, name: nothing}).layers == read(BASE).layers


@pytest.mark.parametrize(
    "name", ["hidden_act", "moe_topk", "num_experts_per_tok", "rope_theta", "attention_bias", "qk_norm", "vocab_size"]
)
def test_a_field_about_something_else_is_not_refused(name: str) -> None:
    assert read({**BASE, name: 3}).layers == read(BASE).layers


def test_what_older_releases_wrote_into_every_file_says_nothing() -> None:
    every = {"is_decoder": False, "num_beams": 1, "top_k": 50, "pruned_heads": {}, "use_flash_attn": True}
    assert (
        read({**BASE, **every, "is_encoder_decoder": False, "add_cross_attention": False}).layers == read(BASE).layers
    )
    assert read({**BASE, "model_type": "bert", "is_decoder": True}).layers == read(BASE).layers


def test_a_shared_layer_of_another_kv_shape_is_refused() -> None:
    data = {**BASE, "num_kv_shared_layers": 1, "per_layer_config": {"3": {"num_key_value_heads": 4}}}
    with pytest.raises(InvalidInputError, match=r"for layer 3, the KV heads and head_dim of layer 2"):
        read(data)


@pytest.mark.parametrize("data", [None, 3, "x", [], [BASE]])
def test_a_document_that_is_no_object_is_refused(data: object) -> None:
    with pytest.raises(InvalidInputError, match=r"the document is .*; allowed: an object"):
        read(data)


@pytest.mark.parametrize(
    "text", ["", "{", "\x00", "[" * 100_000, '{"num_hidden_layers": ' + "9" * 5000 + "}", '{"a": NaN}', "\ud800"]
)
def test_an_unreadable_file_is_one_sentence(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(InvalidInputError) as caught:
        read_model(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(InvalidInputError):
        load_model(str(path))


JUNK: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    3,
    10**40,
    1.5,
    -0.0,
    float("nan"),
    float("inf"),
    1e308,
    "",
    "8",
    "\ud800",
    [],
    {},
]
JUNK += [[[]], {"0": 1}, ["full_attention"], [None], "sliding_attention", {"1": {"head_dim": 0}}]


def mutate(data: Any, rng: random.Random) -> Any:  # noqa: ANN401 - any JSON
    """Change one random place of a JSON value: delete, replace by junk, nest, or copy another place there."""
    places: list[tuple[Any, Any]] = []
    stack = [data]
    while stack:
        node = stack.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else []
        for key in keys:
            places.append((node, key))
            stack.append(node[key])
    if not places or rng.random() < 0.02:
        return rng.choice(JUNK)
    node, key = rng.choice(places)
    action = rng.randrange(4)
    if action == 0:
        del node[key]
    elif action == 1:
        node[key] = copy.deepcopy(rng.choice(JUNK))
    elif action == 2:
        node[key] = {str(key): node[key]} if rng.random() < 0.5 else [node[key]]
    else:
        source, other = rng.choice(places)
        if source is node:
            node[key] = copy.deepcopy(source[other])
    return data


def test_500_mutated_files_never_give_a_traceback(tmp_path: Path) -> None:
    rng = random.Random(20261101)  # noqa: S311 - the same files in every run
    sources = [path.read_text() for path in sorted((ROOT / "models").glob("*.json"))]
    sources += [json.dumps(load_model("gemma4-e2b").shard(4).to_data())]
    path = tmp_path / "fuzzed.json"
    good = 0
    for _ in range(500):
        data = json.loads(rng.choice(sources))
        for _ in range(rng.randint(1, 4)):
            data = mutate(data, rng)
        text = json.dumps(data)
        if rng.random() < 0.1:
            text = text[: rng.randrange(len(text) + 1)]
        path.write_text(text)
        try:
            model = load_model(str(path))
        except AttnconfError as error:
            sentence = str(error)
        else:
            sentence = ""
            assert isinstance(model, ModelGeometry)
            model.case_layers()
            good += 1
        assert "\n" not in sentence
        sentence.encode()
    assert 50 < good < 450
