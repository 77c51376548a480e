"""Models: the shipped geometries by name, and geometries from a user's files."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.cases.geometry import LayerGeometry, ModelGeometry, unsharded
from attnconf.cases.hf_config import model_from_config, model_name, read_model
from attnconf.errors import InvalidInputError
from attnconf.values import read_json
from attnconf_fixtures import ROOT

if TYPE_CHECKING:
    from attnconf.cases.case import Case

FREE_MODEL = "free"
"""The model name of cases with a drawn geometry."""

_ADOPTED: dict[str, ModelGeometry] = {}
"""The models of policies, by their names."""

_FOLDER = ROOT / "models"
_OPTION = "model"
CPU_QUERY_HEADS = 4
"""Query heads that a layer has on a CPU, where one group has no more."""

_LONGEST_DEGREE = 4
"""Digits of a tensor-parallel degree: a longer number is not worth parsing."""


@cache
def shipped_models() -> tuple[str, ...]:
    """Return the names of the geometries that attnconf ships, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.json")))


def load_model(name_or_path: str) -> ModelGeometry:
    """Return a model by its shipped name, or read it from a file or a checkpoint folder.

    A file is a Hugging Face config.json, or a geometry: the JSON of a ``ModelGeometry``, known by its ``layers``.
    Raises ``InvalidInputError``: for a name that is neither, it lists the shipped ones.
    """
    if name_or_path in shipped_models():
        return _shipped(name_or_path)
    if name_or_path in _ADOPTED:
        return _ADOPTED[name_or_path]
    path = Path(name_or_path)
    if not _exists(path):
        known = ", ".join(shipped_models())
        allowed = f"a path to a config.json, or one of {known}"
        raise InvalidInputError(_OPTION, given=ascii(name_or_path), allowed=allowed)
    if path.is_dir():
        path /= "config.json"
    return _read(path)


def adopt(model: ModelGeometry) -> None:
    """Know ``model`` by its name in this process, as a policy names it: its cases must have its layers, too.

    Raises ``InvalidInputError`` where another model has the name already.
    """
    if _ADOPTED.setdefault(model.name, model).layers != model.layers:
        given = f"another model called {model.name!a}"
        raise InvalidInputError(_OPTION, given=given, allowed="models of distinct names")


def is_known(name: str) -> bool:
    """Return whether ``name`` is that of a shipped model, or of one that a policy requires."""
    return name in shipped_models() or name in _ADOPTED


def credited_model(case: Case) -> str:
    """Return the model for which ``case`` is evidence: the named one, if the case has its layers.

    A case with the name of a shipped model, or of one that a policy requires, and another geometry counts as ``free``,
    so that a toy proves no model. The name of any other model is not checked.
    """
    name = unsharded(case.model)
    if not is_known(name):
        return case.model
    part = _part(load_model(name), case.model.removeprefix(name))
    known = set() if part is None else {_plain(layer) for layer in part.layers}
    if not any(request.spans for request in case.requests):  # such a case says nothing about spans, nor did older ones
        known = {(layer.model_copy(update={"spans": False}), shared) for layer, shared in known}
        layers = [layer.model_copy(update={"spans": False}) for layer in case.layers]
    else:
        layers = list(case.layers)
    return case.model if all(_plain(layer) in known for layer in layers) else FREE_MODEL


def _part(model: ModelGeometry, suffix: str) -> ModelGeometry | None:
    """Return the shard or slice of ``model`` with this ``suffix``; None where it has no such shard."""
    if not suffix.startswith("@tp"):
        return model.slice(CPU_QUERY_HEADS) if suffix else model
    degree = suffix.removeprefix("@tp")
    return model.shard(int(degree)) if len(degree) <= _LONGEST_DEGREE and model.splits(int(degree)) else None


def _plain(layer: LayerGeometry) -> tuple[LayerGeometry, bool]:
    """Return the geometry and whether it is redirected. Scales and the owner's index are the case's own."""
    fields = layer.model_dump(include=set(LayerGeometry.model_fields) - {"kv_owner"})
    return LayerGeometry.model_validate(fields), layer.kv_owner is not None


@cache
def _shipped(name: str) -> ModelGeometry:
    return read_model(_FOLDER / f"{name}.json")


def _read(path: Path) -> ModelGeometry:
    data = read_json(path)
    if not (isinstance(data, dict) and "layers" in data):
        return model_from_config(data, str(path), model_name(path))
    return ModelGeometry.from_data(data, str(path))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long or with a zero byte
        return False
