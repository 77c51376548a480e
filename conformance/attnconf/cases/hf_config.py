"""Reads a Hugging Face config.json into the geometry of the model's attention layers.

It takes flat files and files with a ``text_config``, of transformers 4 and 5. Every field that changes attention is
read, or refused by its name. A wrong file raises one ``InvalidInputError``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnconf.cases.attention_words import refuse_unread
from attnconf.cases.config_layers import ConfigLayers
from attnconf.cases.geometry import ModelGeometry
from attnconf.cases.model_families import Family, family_of
from attnconf.errors import InvalidInputError
from attnconf.fields import Fields, quote
from attnconf.values import read_json

if TYPE_CHECKING:
    from pathlib import Path

_TEXTS = ("thinker_config", "text_config", "llm_config", "language_config")
"""Objects in which the text model's configuration stands, from the outside in."""

_FOREIGN = {
    "kv_lora_rank": "latent attention (MLA) has no K and V heads in its cache",
    "block_configs": "blocks with a geometry of their own are not understood",
    "cross_attention_layers": "cross attention reads the keys and values of images",
    "is_encoder_decoder": "an encoder attends in both directions, and a decoder to its keys and values",
}
"""Fields that announce attention which ``LayerGeometry`` cannot express, with the reason."""

_BIASES = ("alibi", "relative")
_BOILERPLATE = "num_beams"
"""A field of configurations that older releases wrote with every default, where ``is_decoder`` is false for all."""


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

    A layer that shares KV reads the last layer of its own kind that comes before the shared ones. Layers that are not
    attention are left out, by their names. Raises ``InvalidInputError``.
    """
    if not isinstance(data, dict):
        raise InvalidInputError(source, field="the document", given=quote(data), allowed="an object")
    outer = Fields(source, data)
    text = _text(outer)
    architectures = outer.texts("architectures") or text.texts("architectures") or ()
    types = (text.text("model_type", ""), outer.text("model_type", ""))
    family = family_of((*types, *architectures))
    _refuse_foreign(text, family, next((one for one in (*types, *architectures) if one), name))
    if outer is not text and (refused := family_of((outer.text("model_type", ""),)).refused):
        outer.refuse("model_type", outer.data["model_type"], f"none: {refused}")
    layers = ConfigLayers(text, family, images=outer is not text)
    return ModelGeometry(
        name=name,
        architectures=architectures,
        layers=layers.layers(),
        left_out=layers.left_out,
        provenance=_provenance(outer),
    )


def _text(outer: Fields) -> Fields:
    text = outer
    for key in _TEXTS:
        text = text.child(key) or text
    return text


def _refuse_foreign(text: Fields, family: Family, name: str) -> None:
    if family.refused:
        text.refuse("model_type", text.data.get("model_type", name), f"none: {family.refused}")
    for field, reason in _FOREIGN.items():
        if text.data.get(field) not in (None, False):
            text.refuse(field, text.data[field], f"none: {reason}")
    _refuse_encoder(text, family)
    bidirectional = text.data.get("use_bidirectional_attention")
    # "vision" keeps text tokens causal: those of an image see each other
    known = bidirectional is True and family.both_ways
    if not known and (bidirectional not in (None, False, "vision") or (bidirectional == "vision" and not family.spans)):
        allowed = "none: attention here is causal" + (', or "vision"' if family.spans else "")
        text.refuse("use_bidirectional_attention", bidirectional, allowed)
    positions = str(text.data.get("position_embedding_type", ""))
    if any(word in positions for word in _BIASES):
        text.refuse("position_embedding_type", positions, "none that adds a bias to the scores")
    kind = text.data.get("att_impl_type")
    if kind not in (None, "GQA"):
        text.refuse("att_impl_type", kind, "GQA")
    if text.data.get("attention_chunk_size") and family.chunk is None and not _says_kinds(text):
        text.refuse(
            "attention_chunk_size",
            text.data["attention_chunk_size"],
            "none without layer_types, which say which layers are chunked",
        )
    refuse_unread(text, family.harmless)


def _refuse_encoder(text: Fields, family: Family) -> None:
    allowed = "true: attention here is causal, and that of an encoder is not"
    if text.data.get("is_causal") is False:
        text.refuse("is_causal", text.data["is_causal"], allowed)
    decoder = text.data.get("is_decoder")
    if family.encoder and decoder is None:
        text.refuse_missing("is_decoder", allowed)
    told = decoder is False and "is_decoder" not in family.harmless and _BOILERPLATE not in text.data
    if told or (family.encoder and decoder is not True):
        text.refuse("is_decoder", decoder, allowed)


def _says_kinds(text: Fields) -> bool:
    """Whether a list names the kind of every layer, so that a chunked one would be named there."""
    lists: tuple[Any, ...] = tuple(text.data.get(name) for name in ("layer_types", "hybrid_layer_pattern"))
    return any(isinstance(one, list) and one for one in lists)


def _provenance(outer: Fields) -> str:
    block = outer.data.get("provenance")
    if isinstance(block, str):
        return block
    fields = outer.child("provenance")
    if fields is None:
        return ""
    return "; ".join(f"{key}: {fields.text(key, '')}" for key in fields.data)
