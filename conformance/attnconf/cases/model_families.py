"""Families: what a model family's code does although its config.json does not say it.

Read from the configuration and modelling files of transformers 5.24 (``models/*/configuration_*.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attnconf.cases.geometry import LayerKind

_SUFFIXES = ("text", "forcausallm", "forconditionalgeneration", "forblockdiffusion")
"""Endings of model types and architectures that do not tell families apart."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """The defaults of one model family; the class's own defaults describe a plain decoder without windows.

    ``pattern``: without ``layer_types``, layer i is full when i + 1 is a multiple of it, else sliding. ``every_layer``:
    a ``sliding_window`` applies to all layers. ``gated``: it applies only with ``use_sliding_window``, from layer
    ``max_window_layers`` on. ``window``: the window of a file without ``sliding_window`` (null means no window).
    ``sm_scale`` fixes the scale of the scores; without it the scale is ``query_pre_attn_scalar ** -0.5``, and without
    that ``head_dim ** -0.5``. ``k_eq_v``: whether the global KV-head count applies in a file without
    ``attention_k_eq_v``. ``sinks`` are the kinds of layers with learned sinks, and ``sliding_kv_factor`` the KV heads
    of a sliding layer to those of a full one, where no field has them. ``interval``: without any list, layer i is full
    when i + 1 is a multiple of it, else linear attention. ``before_query``: ``sliding_window_size`` counts the keys
    before the query, and not itself. ``multi_query``: there is one KV head. ``floors``: a size that the heads do not
    divide is rounded down. ``encoder``: attention is causal only with ``is_decoder``. ``hybrid``: a layer of that name
    has full attention beside another mixer. ``spans`` are the kinds of layers in which the tokens of an image see each
    other: where the file's ``use_bidirectional_attention``, by default ``images``, is "vision", or "always" in a model
    of images. ``chunk``: the ``attention_chunk_size`` of a file without one, in a family whose layers with rotary
    positions are chunked. ``both_ways``: with ``use_bidirectional_attention`` true its layers are bidirectional, and
    the window reaches half of ``sliding_window`` to each side. ``half_scale``: the scale is ``(head_dim / 2) ** -0.5``.
    ``refused`` is why no case can say what the family does; ``harmless`` are fields that sound like attention, and with
    which its code does something else.
    """

    pattern: int | None = None
    every_layer: bool = False
    gated: bool = False
    window: int | None = None
    last_full: bool = False
    sm_scale: float | None = None
    query_pre_attn_scalar: float | None = None
    soft_cap: float | None = None
    sinks: frozenset[LayerKind] = frozenset()
    spans: frozenset[LayerKind] = frozenset()
    images: Literal["vision", "always"] | None = None
    global_head_dim: int | None = None
    k_eq_v: bool = True
    sliding_kv_factor: int = 1
    interval: int | None = None
    before_query: bool = False
    multi_query: bool = False
    floors: bool = False
    encoder: bool = False
    hybrid: bool = False
    both_ways: bool = False
    half_scale: bool = False
    chunk: int | None = None
    refused: str = ""
    harmless: frozenset[str] = frozenset()


PLAIN = Family()

_GEMMA4 = Family(
    pattern=6,
    window=512,
    last_full=True,
    sm_scale=1.0,
    global_head_dim=512,
    k_eq_v=False,
    spans=frozenset({"sliding"}),
)
_QWEN = Family(gated=True, window=4096)
_ALL: frozenset[LayerKind] = frozenset({"sliding", "full"})
_ALIBI = Family(refused="ALiBi adds a bias to the scores")
_MINIMAX = frozenset(f"{kind}_attn_{factor}_factor" for kind in ("full", "linear") for factor in ("alpha", "beta"))
_INDEXER = frozenset(f"index_{name}" for name in ("block_size", "head_dim", "local_blocks", "n_heads", "topk_blocks"))
"""What a layer of sparse attention reads, which ``layer_types`` names where there is one."""

_ENCODERS = (
    *("albert", "bert", "bertgeneration", "bigbird", "camembert", "data2vec", "deberta", "debertav2", "distilbert"),
    *("electra", "ernie", "eurobert", "megatronbert", "modernbert", "mpnet", "nomicbert", "rembert", "roberta"),
    *("robertaprelayernorm", "rocbert", "roformer", "xlmroberta", "xlmrobertaxl", "xmod"),
)
_NO_ATTENTION = Family(refused="none of its layers is attention")
_EVERY_SINK = Family(sinks=_ALL)
_ASSISTANT = Family(refused="every layer of an assistant reads the keys and values of the model that it assists")

_FAMILIES = {
    **dict.fromkeys(_ENCODERS, Family(encoder=True)),
    "gemma2": Family(pattern=2, window=4096, query_pre_attn_scalar=256.0, soft_cap=50.0),
    "gemma3": Family(pattern=6, window=4096, query_pre_attn_scalar=256.0, spans=_ALL, images="always", both_ways=True),
    "gemma3n": Family(pattern=5, window=512, sm_scale=1.0),
    "gemma4": _GEMMA4,
    "gemma4unified": replace(_GEMMA4, window=1024, images="vision"),
    "diffusiongemma": _GEMMA4,
    "gemma4assistant": _ASSISTANT,
    "gemma4unifiedassistant": _ASSISTANT,
    "baichuan": Family(refused="some of its sizes use ALiBi, and no field says which"),
    "bloom": _ALIBI,
    "cohere2moe": Family(pattern=4, window=4096, harmless=frozenset({"prefix_dense_sliding_window_pattern"})),
    "evolla": Family(
        harmless=frozenset({"is_decoder", "resampler_dim_head", "resampler_heads", "resampler_num_latents"})
    ),
    "falconmamba": _NO_ATTENTION,
    "gptneox": Family(harmless=frozenset({"is_decoder"})),
    "llama4": Family(chunk=8192, harmless=frozenset({"attn_scale", "attn_temperature_tuning"})),
    "mamba": _NO_ATTENTION,
    "mamba2": _NO_ATTENTION,
    "minimax": Family(harmless=frozenset({"block_size", *_MINIMAX})),
    "minimaxm3vl": Family(harmless=_INDEXER),
    "glm4moe": Family(floors=True),
    "glm4vmoe": Family(floors=True),
    "qwen3omnimoe": Family(floors=True),
    "qwen3omnimoethinker": Family(floors=True),
    "voxtralrealtime": Family(every_layer=True),
    "modernbertdecoder": Family(pattern=3, harmless=frozenset({"local_attention"})),
    "mpt": _ALIBI,
    "museglimmer": Family(harmless=frozenset({"qk_scale_factor"})),
    "musespark": Family(harmless=frozenset({"qk_scale_factor"})),
    "recurrentgemma": Family(harmless=frozenset({"logits_soft_cap"})),
    "rwkv": _NO_ATTENTION,
    "xlstm": _NO_ATTENTION,
    "zamba2": Family(
        hybrid=True,
        half_scale=True,
        harmless=frozenset({"attention_hidden_size", "kv_channels", "num_query_groups", "num_mem_blocks"}),
    ),
    "zamba": Family(hybrid=True, half_scale=True, harmless=frozenset({"attention_hidden_size"})),
    "cohere2": Family(pattern=4, window=4096),
    "diffllama": Family(refused="differential attention subtracts one softmax from another"),
    "exaone4": Family(pattern=4, window=4096),
    "flint": _EVERY_SINK,
    "gptbigcode": Family(multi_query=True),
    "gptoss": Family(pattern=2, window=128, sinks=_ALL),
    "graniteswa": _EVERY_SINK,
    "granitemoeswa": _EVERY_SINK,
    "jetmoe": Family(refused="its experts choose query heads, which read KV heads in turn"),
    "mimov2flash": Family(sinks=frozenset({"sliding"}), sliding_kv_factor=2, before_query=True),
    "mllama": Family(refused="cross attention reads the keys and values of images"),
    "olmo3": Family(pattern=4, window=4096),
    "qwen3next": Family(interval=4),
    "qwen35": Family(interval=4),
    "qwen35moe": Family(interval=4),
    "mistral": Family(every_layer=True, window=4096),
    "mixtral": Family(every_layer=True),
    "phi3": Family(every_layer=True, harmless=frozenset({"full_attn_mod"})),
    "starcoder2": Family(every_layer=True),
    "qwen2": _QWEN,
    "qwen2moe": _QWEN,
    "qwen3": _QWEN,
    "qwen3moe": _QWEN,
}


def family_of(names: Iterable[str]) -> Family:
    """Return the family of the first known name among ``names``, or a plain decoder."""
    for name in names:
        key = name.lower().replace("_", "").replace("-", "")
        for suffix in _SUFFIXES:
            key = key.removesuffix(suffix)
        if key in _FAMILIES:
            return _FAMILIES[key]
    return PLAIN
