"""Probe: what transformers' own code does in each attention layer, recorded while its model runs without data.

The model of a configuration is built on PyTorch's meta device, where tensors have shapes and no values, and reads a few
tokens. Each attention call goes to a function of ours, by transformers' own registry of attention functions, and each
mask to another one: so query heads, KV heads, head sizes, scale, soft cap and sinks are those of the call, a window is
what the mask function lets see, and a layer that is given another layer's very keys shares them. Nothing is taken from
the configuration, nor from attnconf's reader.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.cache_utils import Cache

NAME = "attnconf_probe"
_FAR = 300_000
"""A position past every window."""

_KNOWN = frozenset({"s_aux", "position_ids", "cache_position"})
"""Tensors of a call that change no score, or are recorded by themselves."""


class Mask(torch.Tensor):
    """A mask without values that remembers what its mask function lets a query see; slices of it do, too."""

    seen: dict[str, Any]

    @staticmethod
    def of(shape: tuple[int, ...], seen: dict[str, Any]) -> Mask:
        """Return a mask of ``shape``."""
        mask = torch.Tensor._make_subclass(Mask, torch.empty(shape, device="meta"))
        mask.seen = seen
        return mask

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = super().__torch_function__(func, types, args, kwargs or {})
        if isinstance(out, Mask) and not hasattr(out, "seen"):
            parents = [one for one in _flat((args, kwargs)) if isinstance(one, Mask) and hasattr(one, "seen")]
            if parents:
                out.seen = parents[0].seen
        return out


def _flat(value: Any) -> list[Any]:
    if isinstance(value, dict):
        value = tuple(value.values())
    return [leaf for one in value for leaf in _flat(one)] if isinstance(value, list | tuple) else [value]


@dataclass
class Recorder:
    """The attention calls of one forward pass, and the keys that were put into its cache."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    keys: list[torch.Tensor] = field(default_factory=list)
    cached: list[list[int]] = field(default_factory=list)

    def clear(self) -> None:
        """Forget everything."""
        self.calls, self.keys, self.cached = [], [], []


RECORDER = Recorder()


def _attention(module: Any, query: Any, key: Any, value: Any, attention_mask: Any = None, **given: Any) -> Any:
    owner = next((i for i, keys in enumerate(RECORDER.keys) if keys is key), None)
    sinks = given.get("s_aux") is not None or any("sink" in name for name, _ in module.named_parameters(recurse=False))
    seen = getattr(attention_mask, "seen", None)
    if seen is None:
        causal = given.get("is_causal", getattr(module, "is_causal", None))
        # without a mask a backend is told by is_causal alone
        seen = {"window": given.get("sliding_window")} if attention_mask is None and causal else {"unknown": True}
    RECORDER.calls.append(
        {
            "layer": getattr(module, "layer_idx", None),
            "module": type(module).__name__,
            "num_qo_heads": query.shape[1],
            "num_kv_heads": min(key.shape[1], _projected(module, key)),
            "head_dim": query.shape[-1],
            "head_dim_v": value.shape[-1],
            "scale": _scale(module, given.get("scaling")),
            "soft_cap": given.get("softcap"),
            "sinks": sinks,
            "sees": seen,
            "window": given.get("sliding_window"),
            "owner": owner,
            "extra": sorted(
                name for name, one in given.items() if isinstance(one, torch.Tensor) and name not in _KNOWN
            ),
        }
    )
    RECORDER.keys.append(key)
    shape = (query.shape[0], query.shape[2], query.shape[1], value.shape[-1])
    return torch.empty(shape, device="meta", dtype=query.dtype), None


def _scale(module: Any, given: Any) -> Any:
    """Return the scale of the scores: some code multiplies the queries by its own before a call with 1."""
    own = getattr(module, "scaling", None)
    return own if given == 1.0 and isinstance(own, float) else given


def _projected(module: Any, key: Any) -> int:
    """Return the KV heads that are projected: some code repeats them before it calls attention."""
    projection = getattr(module, "k_proj", None)
    weight = getattr(projection, "weight", None)
    return int(key.shape[1]) if weight is None else max(1, weight.shape[0] // key.shape[-1])


def _mask(*, batch_size: int, q_length: int, kv_length: int, mask_function: Any, **_given: Any) -> Mask:
    try:
        with torch.device("cpu"):
            seen = sight(mask_function)
    except (RuntimeError, TypeError, IndexError) as error:
        seen = {"unknown": str(error)[:80]}
    return Mask.of((batch_size, 1, q_length, kv_length), seen)


def sight(mask_function: Any) -> dict[str, Any]:
    """Return what a mask function lets a far query see: its window (None for all before it), or what else it is."""
    zero, windows, first_keys = torch.tensor(0), set(), set()
    for position in (_FAR, _FAR - 1, _FAR - 700):
        keys = torch.arange(position + 50)
        seen = torch.as_tensor(mask_function(zero, zero, torch.tensor(position), keys)).expand(keys.shape)
        indices = seen.nonzero().flatten()
        first, last = int(indices[0]), int(indices[-1])
        if last > position:
            return {"ahead": True}
        if len(indices) != last - first + 1:
            return {"holes": True}
        windows.add(position - first + 1)
        first_keys.add(first)
    if first_keys == {0}:
        return {"window": None}
    return {"window": windows.pop()} if len(windows) == 1 else {"chunks": True}


def install() -> None:
    """Register the functions of the probe, and watch what goes into caches."""
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, _mask)
    PreTrainedModel.warn_if_padding_and_no_attention_mask = lambda *_given: (
        None
    )  # it looks at the tokens, which have no values
    update = Cache.update

    def watched(self: Any, key: Any, value: Any, layer: int, *rest: Any, **given: Any) -> Any:
        RECORDER.cached.append([layer, *key.shape[1:]])
        return update(self, key, value, layer, *rest, **given)

    Cache.update = watched
