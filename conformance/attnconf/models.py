"""Models: the shipped geometries by name, and those of the user's own files."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from attnconf.canonical import read_json
from attnconf.errors import InvalidInputError
from attnconf.geometry import ModelGeometry
from attnconf.hf_config import model_from_config, model_name, read_model
from attnconf_fixtures import ROOT

_FOLDER = ROOT / "models"
_OPTION = "model"


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
    path = Path(name_or_path)
    if not _exists(path):
        known = ", ".join(shipped_models())
        allowed = f"a path to a config.json, or one of {known}"
        raise InvalidInputError(_OPTION, given=ascii(name_or_path), allowed=allowed)
    if path.is_dir():
        path /= "config.json"
    return _read(path)


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
