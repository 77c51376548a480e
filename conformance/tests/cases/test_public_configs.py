"""Configurations of public models, against what transformers' and the engines' own code does with them."""

from __future__ import annotations

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from attnconf.cases.geometry import LayerGeometry
from attnconf.cases.hf_config import model_from_config
from attnconf.errors import InvalidInputError

CONFIGS: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "public_configs.json").read_text())

# name: layers of (kind, query heads, KV heads, head_dim, window_left, sinks)
Kind = tuple[str, int, int, int, int, bool]
READ: dict[str, dict[Kind, int]] = {
    "afmoe-trinity": {("sliding", 32, 4, 128, 2047, False): 24, ("full", 32, 4, 128, -1, False): 8},
    "command-a": {("sliding", 96, 8, 128, 4095, False): 48, ("full", 96, 8, 128, -1, False): 16},
    "exaone-4-32b": {("sliding", 40, 8, 128, 4095, False): 48, ("full", 40, 8, 128, -1, False): 16},
    "exaone-4-old": {("sliding", 40, 8, 128, 4095, False): 48, ("full", 40, 8, 128, -1, False): 16},
    "gemma-3n-e4b": {
        ("sliding", 8, 2, 256, 511, False): 16,
        ("full", 8, 2, 256, -1, False): 4,
        ("sliding-shared", 8, 2, 256, 511, False): 12,
        ("full-shared", 8, 2, 256, -1, False): 3,
    },
    "mimo-v2-flash": {("full", 64, 4, 192, -1, False): 9, ("sliding", 64, 8, 192, 128, True): 39},
    "mimo-v2-flash-nochunk": {("full", 64, 4, 192, -1, False): 9, ("sliding", 64, 8, 192, 128, True): 39},
    "mimo-v2-flash-tf5": {("full", 64, 4, 192, -1, False): 9, ("sliding", 64, 8, 192, 128, True): 39},
    "glm-4.6": {("full", 96, 8, 128, -1, False): 92},
    "gpt-oss-120b": {("sliding", 64, 8, 64, 127, True): 18, ("full", 64, 8, 64, -1, True): 18},
    "granite-4.0-h-small": {("full", 32, 8, 128, -1, False): 4},
    "granite-swa": {("full", 20, 4, 128, -1, True): 6, ("sliding", 20, 4, 128, 127, True): 18},
    "hunyuan-a13b": {("full", 32, 8, 128, -1, False): 32},
    "lfm2-1.2b": {("full", 32, 8, 64, -1, False): 6},
    "llama-4-scout": {("chunked", 40, 8, 128, -1, False): 36, ("full", 40, 8, 128, -1, False): 12},
    "minimax-m2": {("full", 48, 8, 128, -1, False): 62},
    "ministral-3-14b": {("full", 32, 8, 128, -1, False): 40},
    "ministral-8b-2410": {("sliding", 32, 8, 128, 32767, False): 36},
    "mistral-small-3.2": {("full", 32, 8, 128, -1, False): 40},
    "nemotron-h-8b": {("full", 32, 8, 128, -1, False): 4},
    "olmo-3-32b": {("sliding", 40, 8, 128, 4095, False): 48, ("full", 40, 8, 128, -1, False): 16},
    "phi-4-mini": {("sliding", 24, 8, 128, 262143, False): 32},
    "qwen3-next-80b-a3b": {("full", 16, 2, 256, -1, False): 12},
    "qwen3.5-27b": {("full", 24, 4, 256, -1, False): 16},
    "smollm3-3b": {("full", 16, 4, 128, -1, False): 36},
    "step-3.5-flash": {("full", 64, 8, 128, -1, False): 12, ("sliding", 96, 8, 128, 511, False): 33},
    "step-3.5-flash-trimmed": {("full", 64, 8, 128, -1, False): 12, ("sliding", 96, 8, 128, 511, False): 33},
}
REFUSED = {
    "deepseek-v3": "kv_lora_rank is 512; allowed: none: latent attention",
    "gemma-4-e4b-it-assistant": "model_type is 'gemma4_assistant'; allowed: none: every layer of an assistant reads",
    "kimi-linear-48b": "kv_lora_rank is 512; allowed: none: latent attention",
    "openpangu": "qk_nope_dim is 128; allowed: none: this field sounds like attention",
    "phi-4-mini-flash": "sliding_window is [None, 512, None",
}
LEFT_OUT = {
    "granite-4.0-h-small": ("mamba",),
    "lfm2-1.2b": ("conv",),
    "nemotron-h-8b": ("mamba", "mlp"),
    "qwen3-next-80b-a3b": ("linear_attention",),
    "qwen3.5-27b": ("linear_attention",),
}


def kinds_of(layers: tuple[LayerGeometry, ...]) -> Counter[Kind]:
    return Counter(
        (one.cell_kind, one.num_qo_heads, one.num_kv_heads, one.head_dim, one.window_left, one.sinks) for one in layers
    )


def test_every_configuration_is_here() -> None:
    assert CONFIGS.keys() == READ.keys() | REFUSED.keys()


@pytest.mark.parametrize("name", sorted(READ))
def test_it_is_read_right(name: str) -> None:
    model = model_from_config(CONFIGS[name], "config.json", name)
    assert kinds_of(model.layers) == READ[name]
    assert model.left_out == LEFT_OUT.get(name, ())


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_it_is_refused_by_the_name_of_what_no_case_can_say(name: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        model_from_config(CONFIGS[name], "config.json", name)
    assert str(caught.value).startswith(f"config.json: {REFUSED[name]}")


@pytest.mark.parametrize("name", sorted(READ))
def test_values_are_as_wide_as_keys_but_in_mimo(name: str) -> None:
    model = model_from_config(CONFIGS[name], "config.json", name)
    assert {one.head_dim_v for one in model.layers} == ({128} if name.startswith("mimo") else {None})


def test_values_of_sliding_layers_may_have_a_width_of_their_own() -> None:
    data = {**CONFIGS["mimo-v2-flash"], "swa_v_head_dim": 96, "v_head_dim": 192}
    model = model_from_config(data, "config.json", "mimo")
    assert {(one.kind, one.head_dim_v) for one in model.layers} == {("full", None), ("sliding", 96)}


@pytest.mark.parametrize("shared", [4, 5])
def test_an_assistant_of_any_family_is_refused(shared: int) -> None:
    data = copy.deepcopy(CONFIGS["gemma-4-e4b-it-assistant"])
    data["model_type"] = "another_assistant"
    data["text_config"]["num_kv_shared_layers"] = shared
    with pytest.raises(InvalidInputError, match=r"num_kv_shared_layers is [45]; allowed: "):
        model_from_config(data, "config.json", "assistant")


def scout(**changes: object) -> list[tuple[str, int | None]]:
    """Return the kinds and chunk sizes of a Llama 4 with ``changes``; None takes a field away."""
    data = copy.deepcopy(CONFIGS["llama-4-scout"])
    data["text_config"] = {**data["text_config"], **changes}
    return [(one.kind, one.chunk_size) for one in model_from_config(data, "config.json", "scout").layers]


def test_layers_with_rotary_positions_are_chunked() -> None:
    """As transformers says it: by layer_types, else no_rope_layers, else the interval; null is no chunk at all."""
    assert scout() == [("chunked", 8192), ("chunked", 8192), ("chunked", 8192), ("full", None)] * 12
    named = scout(layer_types=["full_attention", *["chunked_attention"] * 47], attention_chunk_size=256)
    assert named == [("full", None), *[("chunked", 256)] * 47]
    assert scout(layer_types=None, no_rope_layers=[0, *[1] * 47])[:2] == [("full", None), ("chunked", 8192)]
    every_second = scout(layer_types=None, no_rope_layers=[], no_rope_layer_interval=2)
    assert every_second[:2] == [("chunked", 8192), ("full", None)]
    assert set(scout(layer_types=None, attention_chunk_size=None)) == {("full", None)}


def test_a_chunk_size_without_a_list_of_kinds_is_refused_in_another_family() -> None:
    data = {**CONFIGS["glm-4.6"], "attention_chunk_size": 512}
    with pytest.raises(InvalidInputError, match=r"attention_chunk_size is 512; allowed: none without layer_types"):
        model_from_config(data, "config.json", "glm")
