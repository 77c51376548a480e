"""Reads a Hugging Face config.json into the geometry of the model's attention layers.

It takes flat files and files with a ``text_config``, of transformers 4 and 5. A wrong file raises one
``InvalidInputError``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, get_args

from attnconf.cases.geometry import LARGEST_SCALE, SMALLEST_SCALE, LayerGeometry, LayerKind, ModelGeometry
from attnconf.cases.model_families import Family, family_of
from attnconf.errors import InvalidInputError
from attnconf.fields import Fields, quote
from attnconf.values import read_json

if TYPE_CHECKING:
    from pathlib import Path

_MOST_LAYERS = 1024
_MOST_HEADS = 2**16
_LONGEST_HEAD = 2**16
"""Limits far above any real model: a file beyond them is wrong, and would cost memory."""

_PATTERNS = ("sliding_window_pattern", "_sliding_window_pattern")
"""The names of the period of full layers, in the order in which they count."""

_MAX_WINDOW_LAYERS = 28
"""transformers' default of ``max_window_layers``."""

_SLIDING: Final[LayerKind] = "sliding"
_FULL: Final[LayerKind] = "full"
_KIND: dict[str, LayerKind] = {f"{kind}_attention": kind for kind in get_args(LayerKind)}

_FOREIGN = {
    "kv_lora_rank": "latent attention (MLA) has no K and V heads in its cache",
    "attention_chunk_size": "chunked attention is neither sliding nor full",
    "layers_block_type": "layers that are not attention have no geometry here",
    "block_configs": "blocks with a geometry of their own are not understood",
}
"""Fields that announce attention which ``LayerGeometry`` cannot express, with the reason."""


def read_model(path: Path) -> ModelGeometry:
    """Read the model of the config.json at ``path``. It is named after the folder, or after a file of another name.

    Raises ``InvalidInputError`` for anything that does not describe attention layers.
    """
    return model_from_config(read_json(path), str(path), model_name(path))


def model_name(path: Path) -> str:
    """Return the model's name: the folder's name for a config.json, else the name of the file."""
    return path.resolve().parent.name if path.stem == "config" else path.stem


def model_from_config(data: object, source: str, name: str) -> ModelGeometry:
    """Read the model ``name`` from the parsed config.json ``data``; ``source`` is named in errors.

    A layer that shares KV reads the last layer of its own kind that comes before the shared ones. Raises
    ``InvalidInputError``.
    """
    if not isinstance(data, dict):
        raise InvalidInputError(source, field="the document", given=quote(data), allowed="an object")
    outer = Fields(source, data)
    text = outer.child("text_config") or outer
    architectures = outer.texts("architectures") or text.texts("architectures") or ()
    types = (text.text("model_type", ""), outer.text("model_type", ""))
    _refuse_foreign(text)
    reader = _Reader(text, family_of((*types, *architectures)))
    return ModelGeometry(name=name, architectures=architectures, layers=reader.layers(), provenance=_provenance(outer))


def _refuse_foreign(text: Fields) -> None:
    for field, reason in _FOREIGN.items():
        if text.has(field):
            text.refuse(field, text.data[field], f"none: {reason}")
    bidirectional = text.data.get("use_bidirectional_attention")
    # "vision" keeps text tokens causal; images attend to each other in the prefill of their own tokens only
    if bidirectional not in (None, False, "vision"):
        text.refuse("use_bidirectional_attention", bidirectional, "none: attention here is causal")


def _provenance(outer: Fields) -> str:
    block = outer.data.get("provenance")
    if isinstance(block, str):
        return block
    fields = outer.child("provenance")
    if fields is None:
        return ""
    return "; ".join(f"{key}: {fields.text(key, '')}" for key in fields.data)


@dataclass(frozen=True)
class _Reader:
    """Reads the layers of one text configuration."""

    text: Fields
    family: Family

    def layers(self) -> tuple[LayerGeometry, ...]:
        count = self.text.integer("num_hidden_layers", high=_MOST_LAYERS)
        kinds = self._kinds(count)
        overrides = self._overrides(count)
        first_shared = count - self.text.integer("num_kv_shared_layers", 0, low=0, high=count - 1)
        layers: list[LayerGeometry] = []
        for index, kind in enumerate(kinds):
            owner = None
            if index >= first_shared:
                owner = next((i for i in reversed(range(first_shared)) if kinds[i] == kind), None)
                if owner is None:
                    given, allowed = count - first_shared, f"fewer: no {kind} layer is left to read the KV of"
                    self.text.refuse("num_kv_shared_layers", given, allowed)
            layers.append(self._layer(kind, overrides.get(index), owner))
            if owner is not None:
                self._check_shared(layers, index, owner)
        return tuple(layers)

    def _kinds(self, count: int) -> tuple[LayerKind, ...]:
        names = self.text.texts("layer_types")
        kinds = self._derived_kinds(count) if names is None else tuple(self._kind(name) for name in names)
        if len(kinds) != count:
            allowed = f"as many as num_hidden_layers, {count}"
            raise InvalidInputError(
                self.text.source, field=f"{self.text.prefix}layer_types", given=f"{len(kinds)} long", allowed=allowed
            )
        # transformers forces this too; Gemma 4's shared full layers need it
        return (*kinds[:-1], _FULL) if self.family.last_full else kinds

    def _kind(self, name: str) -> LayerKind:
        if name not in _KIND:
            self.text.refuse("layer_types", name, " or ".join(_KIND))
        return _KIND[name]

    def _derived_kinds(self, count: int) -> tuple[LayerKind, ...]:
        pattern = next((name for name in _PATTERNS if self.text.has(name)), None)
        if pattern is not None or self.family.pattern is not None:
            period = self.text.integer(pattern or _PATTERNS[0], self.family.pattern)
            return tuple(_SLIDING if (index + 1) % period else _FULL for index in range(count))
        if self._window(None) is None:
            return (_FULL,) * count
        if self.family.gated:
            if not self.text.boolean("use_sliding_window", default=False):
                return (_FULL,) * count
            first = self.text.integer("max_window_layers", _MAX_WINDOW_LAYERS, low=0)
            return tuple(_SLIDING if index >= first else _FULL for index in range(count))
        if not self.family.every_layer:
            self.text.refuse_missing("layer_types", "layer_types, to say which layers the sliding_window binds")
        return (_SLIDING,) * count

    def _overrides(self, count: int) -> dict[int, Fields]:
        """Return transformers 5's ``per_layer_config``: the fields in which single layers differ."""
        table = self.text.child("per_layer_config")
        if table is None:
            return {}
        overrides = {}
        for key in table.data:
            if not (key.isascii() and key.isdigit() and len(key) <= len(str(count)) and int(key) < count):
                self.text.refuse("per_layer_config", key, f"layer numbers from 0 to {count - 1}")
            override = table.child(key)
            if override is not None:
                if override.data.get("skip"):
                    override.refuse("skip", override.data["skip"], "none: a skipped layer has no geometry")
                overrides[int(key)] = override
        return overrides

    def _layer(self, kind: LayerKind, override: Fields | None, owner: int | None) -> LayerGeometry:
        num_qo_heads = self._pick("num_attention_heads", override).integer("num_attention_heads", high=_MOST_HEADS)
        place, field, num_kv_heads = self._kv_heads(kind, override, num_qo_heads)
        if num_qo_heads % num_kv_heads:
            place.refuse(field, num_kv_heads, f"a divisor of num_attention_heads, {num_qo_heads}")
        head_dim = self._head_dim(kind, override, num_qo_heads)
        return LayerGeometry(
            kind=kind,
            window_left=-1 if kind == "full" else self._sliding_window(override) - 1,
            num_qo_heads=num_qo_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            sm_scale=self._sm_scale(head_dim),
            logits_soft_cap=self._soft_cap(),
            sinks=self.family.sinks,
            kv_owner=owner,
        )

    def _kv_heads(self, kind: LayerKind, override: Fields | None, num_qo_heads: int) -> tuple[Fields, str, int]:
        place, field = self._pick("num_key_value_heads", override), "num_key_value_heads"
        # the global count is for layers that reuse K as V; other sizes of the model may have the field and ignore it
        gate = self.text.boolean("attention_k_eq_v", default=self.family.k_eq_v)
        if gate and self._is_global(kind) and self.text.has("num_global_key_value_heads"):
            field = "num_global_key_value_heads"
        return place, field, place.integer(field, num_qo_heads, high=_MOST_HEADS)

    def _is_global(self, kind: LayerKind) -> bool:
        """Whether the fields for global layers apply: transformers 5 ignores them beside a ``per_layer_config``."""
        return kind == "full" and not self.text.has("per_layer_config")

    def _head_dim(self, kind: LayerKind, override: Fields | None, num_qo_heads: int) -> int:
        default = self.family.global_head_dim
        if self._is_global(kind) and (default is not None or self.text.has("global_head_dim")):
            return self.text.integer("global_head_dim", default, high=_LONGEST_HEAD)
        place = self._pick("head_dim", override)
        if place.has("head_dim"):
            return place.integer("head_dim", high=_LONGEST_HEAD)
        if not self.text.has("hidden_size"):
            self.text.refuse_missing("head_dim", "head_dim, or hidden_size to divide by num_attention_heads")
        hidden_size = self.text.integer("hidden_size")
        if hidden_size % num_qo_heads or hidden_size // num_qo_heads > _LONGEST_HEAD:
            allowed = f"a multiple of num_attention_heads, {num_qo_heads}, as there is no head_dim"
            self.text.refuse("hidden_size", hidden_size, allowed)
        return hidden_size // num_qo_heads

    def _window(self, override: Fields | None) -> int | None:
        place = self._pick("sliding_window", override)
        if "sliding_window" in place.data:
            return place.integer("sliding_window") if place.has("sliding_window") else None
        return self.family.window

    def _sliding_window(self, override: Fields | None) -> int:
        window = self._window(override)
        if window is None:
            self.text.refuse_missing("sliding_window", "a whole number of 1 or more: some layers are sliding")
        return window

    def _sm_scale(self, head_dim: int) -> float:
        if self.family.sm_scale is not None:
            return self.family.sm_scale
        if self.text.has("attention_multiplier"):  # Granite
            return self._score_scale("attention_multiplier", self.text.positive("attention_multiplier"))
        name = "query_pre_attn_scalar"
        scale: float = self.text.positive(name, self.family.query_pre_attn_scalar or head_dim) ** -0.5
        return self._score_scale(name, scale)

    def _soft_cap(self) -> float | None:
        if "attn_logit_softcapping" not in self.text.data:
            return self.family.soft_cap
        if not self.text.has("attn_logit_softcapping"):
            return None
        return self._score_scale("attn_logit_softcapping", self.text.positive("attn_logit_softcapping"))

    def _score_scale(self, field: str, scale: float) -> float:
        """Return the ``scale`` of scores that ``field`` gives."""
        if not SMALLEST_SCALE <= scale <= LARGEST_SCALE:
            allowed = f"what scales scores by {SMALLEST_SCALE:g} to {LARGEST_SCALE:g}"
            self.text.refuse(field, self.text.data.get(field), allowed)
        return scale

    def _pick(self, name: str, override: Fields | None) -> Fields:
        return override if override is not None and name in override.data else self.text

    def _check_shared(self, layers: list[LayerGeometry], index: int, owner: int) -> None:
        reads, has = layers[index], layers[owner]
        shapes = [(layer.num_kv_heads, layer.head_dim) for layer in (reads, has)]
        if shapes[0] != shapes[1]:
            allowed = f"for layer {index}, the KV heads and head_dim of layer {owner}, whose KV it reads: {shapes[1]}"
            self.text.refuse("per_layer_config", shapes[0], allowed)
