"""Families: what a model family's code does although its config.json does not say it.

Read from the configuration and modelling files of transformers 5.23 (``models/*/configuration_*.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

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
    ``attention_k_eq_v``.
    """

    pattern: int | None = None
    every_layer: bool = False
    gated: bool = False
    window: int | None = None
    last_full: bool = False
    sm_scale: float | None = None
    query_pre_attn_scalar: float | None = None
    soft_cap: float | None = None
    sinks: bool = False
    global_head_dim: int | None = None
    k_eq_v: bool = True


PLAIN = Family()

_GEMMA4 = Family(pattern=6, window=512, last_full=True, sm_scale=1.0, global_head_dim=512, k_eq_v=False)
_QWEN = Family(gated=True, window=4096)

_FAMILIES = {
    "gemma2": Family(pattern=2, window=4096, query_pre_attn_scalar=256.0, soft_cap=50.0),
    "gemma3": Family(pattern=6, window=4096, query_pre_attn_scalar=256.0),
    "gemma3n": Family(pattern=5, window=512, sm_scale=1.0),
    "gemma4": _GEMMA4,
    "gemma4unified": Family(pattern=6, window=1024, last_full=True, sm_scale=1.0, global_head_dim=512, k_eq_v=False),
    "diffusiongemma": _GEMMA4,
    "gptoss": Family(pattern=2, window=128, sinks=True),
    "mistral": Family(every_layer=True, window=4096),
    "mixtral": Family(every_layer=True),
    "phi3": Family(every_layer=True),
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
