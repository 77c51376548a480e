"""Config layers: heads, sizes, windows, sinks and owners of each attention layer of a config.json."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from attnconf.cases.geometry import (
    LARGEST_SCALE,
    MOST_UNDER_WIDER,
    SMALLEST_SCALE,
    WIDEST_VALUES,
    LayerGeometry,
    LayerKind,
)
from attnconf.cases.layer_kinds import CHUNKED, FULL, SLIDING, layer_kinds
from attnconf.fields import Fields, quote

if TYPE_CHECKING:
    from attnconf.cases.model_families import Family

_MOST_LAYERS = 1024
_MOST_HEADS = 2**16
_LONGEST_HEAD = 2**16
"""Limits far above any real model: a file beyond them is wrong, and would cost memory."""

_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "layers")
_HIDDEN = ("hidden_size", "n_embd", "d_model", "embed_dim")
_QO_HEADS = ("num_attention_heads", "n_head", "n_heads", "attention_heads")
_KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "num_attention_groups", "num_query_groups")
_HEAD_DIM = ("head_dim", "attention_head_dim", "attention_head_size", "kv_channels")
_V_HEAD_DIM = ("v_head_dim", "head_dim_v")
_WINDOW = ("sliding_window", "sliding_window_size", "attention_window_size")
"""The names of one property in different families; where several stand, they must agree."""

_OF_SLIDING = {
    "num_attention_heads": ("swa_num_attention_heads", "num_sliding_attention_heads"),
    "num_key_value_heads": ("swa_num_key_value_heads",),
    "head_dim": ("swa_head_dim",),
    "v_head_dim": ("swa_v_head_dim",),
}
"""The fields of sliding layers alone."""

_PER_LAYER = {"num_attention_heads": "num_attention_heads_per_layer"}
"""Lists with a value for each layer."""

_SAYING = ("layers_block_type", "hybrid_override_pattern")
"""Fields with an entry for each layer of files without a number of layers (Nemotron-H)."""

_KINDS: dict[str, LayerKind] = {SLIDING: SLIDING, FULL: FULL, CHUNKED: CHUNKED}
_CHUNK = "attention_chunk_size"
_SINKS: dict[LayerKind, str] = {FULL: "add_full_attention_sink_bias", SLIDING: "add_swa_attention_sink_bias"}


@dataclass(frozen=True)
class ConfigLayers:
    """The layers of one text configuration ``text`` of a ``family``, which may stand in a model of ``images``.

    Every read may raise ``InvalidInputError``.
    """

    text: Fields
    family: Family
    images: bool = False

    @cached_property
    def count(self) -> int:
        """All layers of the model."""
        name = self._name(self.text, _LAYERS)
        listed = next((self.text.data[field] for field in _SAYING if self.text.has(field)), None)
        default = len(listed) if isinstance(listed, list | str) and listed else None
        return self.text.integer(name, default, high=_MOST_LAYERS)

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The kind of each layer, or the name of what it is instead of attention."""
        return layer_kinds(self.text, self.family, self.count, self._window(None))

    @property
    def left_out(self) -> tuple[str, ...]:
        """The names of the layers that are not attention, each once."""
        return tuple(dict.fromkeys(kind for kind in self.kinds if kind not in _KINDS))

    def layers(self) -> tuple[LayerGeometry, ...]:
        """Return the attention layers, in order. ``kv_owner`` counts attention layers alone."""
        kinds = [(index, _KINDS[name]) for index, name in enumerate(self.kinds) if name in _KINDS]
        if not kinds:
            self.text.refuse("layer_types", " and ".join(self.left_out), "an attention layer at least")
        overrides = self._overrides()
        first_shared = self.count - self._shared()
        layers: list[LayerGeometry] = []
        for place, (index, kind) in enumerate(kinds):
            owner = None
            if index >= first_shared:
                earlier = (other for other in reversed(range(place)) if kinds[other][0] < first_shared)
                owner = next((other for other in earlier if kinds[other][1] == kind), None)
                if owner is None:
                    given, allowed = self.count - first_shared, f"fewer: no {kind} layer is left to read the KV of"
                    self.text.refuse("num_kv_shared_layers", given, allowed)
            layers.append(self._layer(kind, index, overrides.get(index), owner))
            if owner is not None:
                self._check_shared(layers, place, owner)
        return tuple(layers)

    def _shared(self) -> int:
        field = "num_kv_shared_layers"
        if self.text.data.get(field) == self.count:
            allowed = f"fewer than num_hidden_layers, {self.count}: else every layer reads the KV of another model"
            self.text.refuse(field, self.count, allowed)
        return self.text.integer(field, 0, low=0, high=self.count - 1)

    def _overrides(self) -> dict[int, Fields]:
        """Return transformers 5's ``per_layer_config``: the fields in which single layers differ."""
        table = self.text.child("per_layer_config")
        overrides = {}
        for key in () if table is None else table.data:
            if not (key.isascii() and key.isdigit() and len(key) <= len(str(self.count)) and int(key) < self.count):
                self.text.refuse("per_layer_config", key, f"layer numbers from 0 to {self.count - 1}")
            override = None if table is None else table.child(key)
            if override is not None:
                if override.data.get("skip"):
                    override.refuse("skip", override.data["skip"], "none: a skipped layer has no geometry")
                overrides[int(key)] = override
        return overrides

    def _layer(self, kind: LayerKind, index: int, override: Fields | None, owner: int | None) -> LayerGeometry:
        place, field = self._find("num_attention_heads", _QO_HEADS, kind, override)
        num_qo_heads = self._of_layer(place, field, index, "num_attention_heads")
        place, field, num_kv_heads = self._kv_heads(kind, override, num_qo_heads)
        if num_qo_heads % num_kv_heads:
            place.refuse(field, num_kv_heads, f"a divisor of num_attention_heads, {num_qo_heads}")
        head_dim = self._head_dim(kind, override, num_qo_heads)
        return LayerGeometry(
            kind=kind,
            window_left=self._window_left(override) if kind == SLIDING else -1,
            num_qo_heads=num_qo_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            head_dim_v=self._head_dim_v(kind, override, head_dim),
            sm_scale=self._sm_scale(head_dim),
            logits_soft_cap=self._soft_cap(),
            sinks=self._sinks(kind),
            kv_owner=owner,
            spans=self._follows_images and kind in self.family.spans and not self._both_ways,
            bidirectional=self._both_ways,
            chunk_size=self.text.integer(_CHUNK, self.family.chunk) if kind == CHUNKED else None,
        )

    def _sinks(self, kind: LayerKind) -> bool:
        default = kind in self.family.sinks
        return self.text.boolean(_SINKS[kind], default=default) if kind in _SINKS else default

    @property
    def _both_ways(self) -> bool:
        """Whether all tokens see each other: of Gemma 3 in an embedding model."""
        return self.family.both_ways and self.text.data.get("use_bidirectional_attention") is True

    @property
    def _follows_images(self) -> bool:
        """Whether the tokens of an image see each other in some layers."""
        if self.family.images == "always":
            return self.images
        return bool(self.text.data.get("use_bidirectional_attention", self.family.images) == "vision")

    def _of_layer(self, place: Fields, field: str, index: int, listed: str) -> int:
        """Return the value of one layer where a list has one for each, else the value of all."""
        name = _PER_LAYER[listed]
        given = self.text.data.get(name)
        if given is None or place is not self.text:
            return place.integer(field, high=_MOST_HEADS)
        if not isinstance(given, list) or len(given) != self.count:
            self.text.refuse(name, given, f"a list of {self.count} whole numbers, as num_hidden_layers says")
        return Fields(self.text.source, {name: given[index]}, self.text.prefix).integer(name, high=_MOST_HEADS)

    def _kv_heads(self, kind: LayerKind, override: Fields | None, num_qo_heads: int) -> tuple[Fields, str, int]:
        place, field = self._find("num_key_value_heads", _KV_HEADS, kind, override)
        # the global count is for layers that reuse K as V; other sizes of the model may have the field and ignore it
        gate = self.text.boolean("attention_k_eq_v", default=self.family.k_eq_v)
        if gate and self._is_global(kind) and self.text.has("num_global_key_value_heads"):
            field = "num_global_key_value_heads"
        if not place.has(field) and self.text.boolean("multi_query", default=self.family.multi_query):
            return self.text, "multi_query", 1
        count = place.integer(field, num_qo_heads, high=_MOST_HEADS)
        if kind == SLIDING and field in _KV_HEADS and place is self.text:
            count *= self.family.sliding_kv_factor
        return place, field, count

    def _is_global(self, kind: LayerKind) -> bool:
        """Whether the fields for global layers apply: transformers 5 ignores them beside a ``per_layer_config``."""
        return kind == FULL and not self.text.has("per_layer_config")

    def _head_dim(self, kind: LayerKind, override: Fields | None, num_qo_heads: int) -> int:
        default = self.family.global_head_dim
        if self._is_global(kind) and (default is not None or self.text.has("global_head_dim")):
            return self.text.integer("global_head_dim", default, high=_LONGEST_HEAD)
        place, field = self._find("head_dim", _HEAD_DIM, kind, override)
        if place.has(field):
            return place.integer(field, high=_LONGEST_HEAD)
        hidden = self._name(self.text, _HIDDEN)
        if not self.text.has(hidden):
            self.text.refuse_missing("head_dim", "head_dim, or hidden_size to divide by num_attention_heads")
        hidden_size = self.text.integer(hidden)
        divides = self.family.floors or hidden_size % num_qo_heads == 0
        if not divides or not 1 <= hidden_size // num_qo_heads <= _LONGEST_HEAD:
            allowed = f"a multiple of num_attention_heads, {num_qo_heads}, as there is no head_dim"
            self.text.refuse(hidden, hidden_size, allowed)
        return hidden_size // num_qo_heads

    def _head_dim_v(self, kind: LayerKind, override: Fields | None, head_dim: int) -> int | None:
        """Return the width of values where a field says it, None for that of keys."""
        place, field = self._find("v_head_dim", _V_HEAD_DIM, kind, override)
        if not place.has(field):
            return None
        width = place.integer(field, high=_LONGEST_HEAD)
        if width > head_dim and (head_dim > MOST_UNDER_WIDER or width > WIDEST_VALUES):
            allowed = f"up to head_dim, {head_dim}"
            if head_dim <= MOST_UNDER_WIDER:
                allowed = f"up to {WIDEST_VALUES}"
            place.refuse(field, width, f"{allowed}: no kernel has values that are so much wider than keys")
        return width

    def _window(self, override: Fields | None) -> int | None:
        if self.text.data.get("use_sliding_window") is False:
            return None
        place = override if override is not None and "sliding_window" in override.data else self.text
        field = self._name(place, _WINDOW)
        if field in place.data:
            return place.integer(field) if place.has(field) else None
        return self.family.window

    def _window_left(self, override: Fields | None) -> int:
        size = "sliding_window_size"
        if self.family.before_query and self.text.has(size):
            return self.text.integer(size)
        window = self._window(override)
        if window is None:
            self.text.refuse_missing("sliding_window", "a whole number of 1 or more: some layers are sliding")
        return window // 2 if self._both_ways else window - 1

    def _sm_scale(self, head_dim: int) -> float:
        if self.family.sm_scale is not None:
            return self.family.sm_scale
        if self.text.has("attention_multiplier"):  # Granite
            return self._score_scale("attention_multiplier", self.text.positive("attention_multiplier"))
        if self.family.half_scale:
            return float((head_dim / 2) ** -0.5)
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

    def _find(self, name: str, names: tuple[str, ...], kind: LayerKind, override: Fields | None) -> tuple[Fields, str]:
        """Return where a property of a layer stands: its own override, the sliding layers', or that of all."""
        if override is not None and name in override.data:
            return override, name
        if kind == SLIDING:
            other = self.text.child("attention_other_setting")  # Step-3.5
            if other is not None and other.data.get("attention_type") == "sliding_attention":
                found = self._name(other, names)
                if other.has(found):
                    return other, found
            of_sliding = next((field for field in _OF_SLIDING[name] if self.text.has(field)), None)
            if of_sliding is not None:
                return self.text, of_sliding
        return self.text, self._name(self.text, names)

    def _name(self, place: Fields, names: tuple[str, ...]) -> str:
        """Return which of the ``names`` of one property the file uses, the first where it uses none."""
        there = [name for name in names if place.has(name) and name not in self.family.harmless]
        if not there:
            return next((name for name in names if name in place.data), names[0])
        strange = next((name for name in there if place.data[name] != place.data[there[0]]), None)
        if strange is not None:
            place.refuse(strange, place.data[strange], f"what {there[0]} says, {quote(place.data[there[0]])}")
        return there[0]

    def _check_shared(self, layers: list[LayerGeometry], index: int, owner: int) -> None:
        reads, has = layers[index], layers[owner]
        if reads.kv_shape != has.kv_shape:
            plain = reads.head_dim_v is None is has.head_dim_v
            shapes = [one.kv_shape[: 2 if plain else 3] for one in (reads, has)]
            what = "the KV heads and head_dim" if plain else "the KV heads, head_dim and head_dim_v"
            allowed = f"for layer {index}, {what} of layer {owner}, whose KV it reads: {shapes[1]}"
            self.text.refuse("per_layer_config", shapes[0], allowed)
