"""Own models: a path in a policy's ``models`` stands for the model of the config.json there, beside the policy.

The policy then holds the geometry itself, so that its digest, which every receipt carries, is also of the model.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from attnconf.cases.models import adopt, load_model, shipped_models
from attnconf.errors import InvalidInputError
from attnconf.fields import quote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OWN = "own_models"
"""The field of a policy that holds the geometries; a policy's author does not write it."""

_NAME = re.compile(r"[\w.@:-]+")
_LISTS = ("required", "waivers")


def with_own_models(data: dict[str, Any], source: str, folder: Path) -> dict[str, Any]:
    """Return the policy ``data`` of the file ``source`` with names instead of paths, which are read from ``folder``.

    Raises ``InvalidInputError``: for a file that is no model, and for two models of one name.
    """
    if OWN in data:
        raise InvalidInputError(source, field=OWN, given="a table", allowed="nothing: a path in models is enough")
    found: dict[str, Any] = {}
    for place in _places(data):
        for index, name in enumerate(place["models"]):
            if not (isinstance(name, str) and ("/" in name or name.endswith(".json"))):
                continue
            model = load_model(str(folder / name))
            place["models"][index] = model.name
            is_shipped = model.name in shipped_models()
            if is_shipped and load_model(model.name).layers == model.layers:
                continue
            if is_shipped or not _NAME.fullmatch(model.name):
                given, allowed = f"called {quote(model.name)}", "a folder whose name is that of no other model"
                raise InvalidInputError(str(folder / name), field="the model", given=given, allowed=allowed)
            if found.setdefault(model.name, model) != model:
                given = f"another model called {quote(model.name)}"
                raise InvalidInputError(source, field="models", given=given, allowed="models of distinct names")
            adopt(model)
    return {**data, OWN: {name: model.to_data() for name, model in found.items()}} if found else data


def _places(data: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the tables that have a list of models, copied so that what was read stays as it is."""
    for name in _LISTS:
        blocks = data.get(name)
        if not isinstance(blocks, list):
            continue
        data[name] = blocks = [dict(one) if isinstance(one, dict) else one for one in blocks]
        for block in (one for one in blocks if isinstance(one, dict)):
            if isinstance(block.get("allow_unsupported"), list):
                block["allow_unsupported"] = [
                    dict(one) if isinstance(one, dict) else one for one in block["allow_unsupported"]
                ]
            inner = block.get("allow_unsupported")
            for one in (block, *(inner if isinstance(inner, list) else ())):
                if isinstance(one, dict) and isinstance(one.get("models"), list):
                    one["models"] = list(one["models"])
                    yield one
