"""Layer kinds: what each layer of a config.json is, sliding or full attention, or no attention.

Layers that are not attention have no keys and values, so no geometry: they are left out, by the names that they have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attnconf.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.cases.geometry import LayerKind
    from attnconf.cases.model_families import Family
    from attnconf.fields import Fields

SLIDING: Final[LayerKind] = "sliding"
FULL: Final[LayerKind] = "full"
CHUNKED: Final[LayerKind] = "chunked"
_ATTENTION: dict[str, LayerKind] = {
    "sliding_attention": SLIDING,
    "full_attention": FULL,
    "attention": FULL,
    "chunked_attention": CHUNKED,
}
LEFT_OUT = ("linear_attention", "mamba", "mamba2", "conv", "recurrent", "mlp", "moe")
"""Layers without keys and values of tokens: state spaces, linear attention, convolutions, and those without a mixer."""

_SYMBOLS = {"M": "mamba", "-": "mlp", "E": "moe", "*": "full_attention"}
"""The letters of ``hybrid_override_pattern`` (Nemotron-H)."""

_REFUSED = {
    "hybrid": "its attention is one part of a layer with another mixer",
    "hybrid_sliding": "its attention is one part of a layer with another mixer",
}
_LISTS = ("layer_types", "layers_block_type")
_PATTERNS = ("sliding_window_pattern", "_sliding_window_pattern", "layer_switch", "global_attn_every_n_layers")
"""The names of the period of full layers, in the order in which they count."""

_MAX_WINDOW_LAYERS = 28
"""transformers' default of ``max_window_layers``."""

_LONGEST_PATTERN = 1024


def layer_kinds(text: Fields, family: Family, count: int, window: int | None) -> tuple[str, ...]:
    """Return for each of ``count`` layers ``sliding``, ``full``, ``chunked``, or a name of ``LEFT_OUT``.

    ``window`` is that of the file. Raises ``InvalidInputError`` for a layer that is none of them.
    """
    source, names = _named(text, family, count)
    if names is None:
        kinds = _derived(text, family, count, window)
    else:
        extra = text.integer("num_nextn_predict_layers", 0, low=0) if text.has("num_nextn_predict_layers") else 0
        if len(names) == count + extra:
            names = names[:count]  # the rest are layers for speculation, behind the model's own
        if len(names) != count:
            given, allowed = f"{len(names)} long", f"as many as num_hidden_layers, {count}"
            raise InvalidInputError(text.source, field=f"{text.prefix}{source}", given=given, allowed=allowed)
        kinds = tuple(FULL if family.hybrid and name == "hybrid" else _kind(text, source, name) for name in names)
    # transformers forces this too; Gemma 4's shared full layers need it
    return (*kinds[:-1], FULL) if family.last_full else kinds


def _kind(text: Fields, field: str, name: str) -> str:
    if name in _ATTENTION:
        return _ATTENTION[name]
    if name not in LEFT_OUT:
        known = " or ".join((*_ATTENTION, *LEFT_OUT))
        text.refuse(field, name, f"{known}: {_REFUSED[name]}" if name in _REFUSED else known)
    return name


def _named(text: Fields, family: Family, count: int) -> tuple[str, tuple[str, ...] | None]:
    """Return the field that names each layer, and the names; None where no field does."""
    for field in _LISTS:
        names = text.texts(field)
        if names is not None:
            return field, names
    for field, read in _READERS.items():
        if text.has(field):
            return field, read(text, field, count)
    if family.chunk is not None and text.data.get("attention_chunk_size", family.chunk) is not None:
        return "no_rope_layers", _unrotated(text, count)
    if family.interval is not None:
        return "full_attention_interval", _interval(text, "full_attention_interval", count, family.interval)
    return "layer_types", None


def _derived(text: Fields, family: Family, count: int, window: int | None) -> tuple[str, ...]:
    pattern = next((name for name in _PATTERNS if text.has(name)), None)
    order = text.text("order_of_interleaved_layers", "local_attn_first")
    if order != "local_attn_first":
        text.refuse("order_of_interleaved_layers", order, "local_attn_first")
    if pattern is not None and isinstance(text.data[pattern], str):
        return _lettered(text, pattern, count)
    if pattern is not None or family.pattern is not None:
        period = text.integer(pattern or _PATTERNS[0], family.pattern)
        return tuple(SLIDING if (index + 1) % period else FULL for index in range(count))
    if window is None:
        return (FULL,) * count
    if family.gated or text.data.get("use_sliding_window") is False:
        if not text.boolean("use_sliding_window", default=False):
            return (FULL,) * count
        first = text.integer("max_window_layers", _MAX_WINDOW_LAYERS, low=0)
        return tuple(SLIDING if index >= first else FULL for index in range(count))
    if not family.every_layer:
        text.refuse_missing("layer_types", "layer_types, to say which layers the sliding_window binds")
    return (SLIDING,) * count


def _lettered(text: Fields, field: str, count: int) -> tuple[str, ...]:
    """Read a period in letters: L for a local layer, G for a global one (``LLLG`` of EXAONE 4)."""
    letters = text.text(field, "")
    if not letters or set(letters) - {"L", "G"} or len(letters) > _LONGEST_PATTERN:
        text.refuse(field, letters, "a whole number, or the letters L and G")
    return tuple(SLIDING if letters[index % len(letters)] == "L" else FULL for index in range(count))


def _interval(text: Fields, field: str, count: int, default: int | None = None) -> tuple[str, ...]:
    """Every so many layers one is full attention, and the others are linear attention (Qwen3-Next)."""
    period = text.integer(field, default)
    return tuple("linear_attention" if (index + 1) % period else "full_attention" for index in range(count))


def _unrotated(text: Fields, count: int) -> tuple[str, ...]:
    """Read which layers rotate positions (1) or not (0): these are full, and the others chunked (Llama 4)."""
    if not text.data.get("no_rope_layers"):
        period = text.integer("no_rope_layer_interval", 4)
        return tuple("chunked_attention" if (index + 1) % period else "full_attention" for index in range(count))
    return _numbered("chunked_attention", "full_attention")(text, "no_rope_layers", count)


def _letters(text: Fields, field: str, _count: int) -> tuple[str, ...]:
    symbols = text.text(field, "")
    strange = next((symbol for symbol in symbols if symbol not in _SYMBOLS), None)
    if strange is not None:
        text.refuse(field, strange, f"one of {' '.join(_SYMBOLS)}")
    return tuple(_SYMBOLS[symbol] for symbol in symbols)


def _numbered(one: str, zero: str) -> Callable[[Fields, str, int], tuple[str, ...]]:
    """Return a reader of a list of ones and zeros."""

    def read(text: Fields, field: str, _count: int) -> tuple[str, ...]:
        given = text.data[field]
        if not isinstance(given, list) or not all(type(value) is int and value in {0, 1} for value in given):
            text.refuse(field, given, "a list of 0 and 1")
        return tuple(one if value else zero for value in given)

    return read


def _indices(other: str) -> Callable[[Fields, str, int], tuple[str, ...]]:
    """Return a reader of a list of the layers that are full attention; the rest are ``other``."""

    def read(text: Fields, field: str, count: int) -> tuple[str, ...]:
        given = text.data[field]
        if not isinstance(given, list) or not all(type(value) is int and 0 <= value < count for value in given):
            text.refuse(field, given, f"a list of layer numbers from 0 to {count - 1}")
        return tuple("full_attention" if index in given else other for index in range(count))

    return read


def _periodic(text: Fields, field: str, count: int) -> tuple[str, ...]:
    """Read a period and an offset of the full layers: the others are state spaces (Jamba)."""
    period, offset = text.integer(field), text.integer("attn_layer_offset", 0, low=0)
    return tuple("full_attention" if index % period == offset % period else "mamba" for index in range(count))


def _repeated(text: Fields, field: str, count: int) -> tuple[str, ...]:
    """Read a list that repeats until every layer has a name (RecurrentGemma); all its attention has the window."""
    names = text.texts(field) or ()
    if not names:
        text.refuse(field, [], "a list of strings")
    chosen = (names[index % len(names)] for index in range(count))
    return tuple("sliding_attention" if name == "attention" else name for name in chosen)


_READERS: dict[str, Callable[[Fields, str, int], tuple[str, ...]]] = {
    "hybrid_override_pattern": _letters,
    "hybrid_layer_pattern": _numbered("sliding_attention", "full_attention"),
    "attn_type_list": _numbered("full_attention", "linear_attention"),
    "full_attention_interval": _interval,
    "attn_layer_indices": _indices("mamba"),
    "full_attn_idxs": _indices("conv"),
    "attn_layer_period": _periodic,
    "block_types": _repeated,
}
"""The other fields that say what each layer is, in the order in which they count."""
