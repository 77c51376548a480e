"""Hostile text, put into every string of a file that its model lets through: a new field is covered by itself."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

from attnconf.errors import AttnconfError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attnconf.values import Value

FORGED = "FORGED"
MARKUP = (
    "|x|`y`*z*<script>forged()</script></pre><img src=x onerror=forged()>![i](https://evil.example/i)[l](evil:l)"
    "www.evil.example https://evil.example ~~~ $(touch pwned);touch pwned;'\"#%0A{{7*7}}[red]"
)
EVIL = (
    f"::error::pwn ##[add-mask]x\x1b[31mil\x1b]0;t\x07\n::error::pwn\r\n  ::add-mask::x\n{FORGED}\n# {FORGED}\n```\n"
    f"##vso[task.setvariable]x\u2028::stop\x85\u202e\u2066\u200b\u3164\x9b1m\x7f\x00{MARKUP}"
)
"""It breaks a line, starts a command, moves a cursor, hides, and is markup of each language."""
SHORT = EVIL[:60]
FILE = EVIL.replace("/", "\u2215").replace("\x00", "")[:60] + "\udcff$(touch pwned);touch pwned;'\" x"
"""The same as the name of a file."""

_Path = tuple[str | int, ...]
_DEEPEST = 4
"""How often fields inside of new fields are filled."""


class Poisoned:
    """A right file of ``model``, with hostile text in every string that may have it.

    ``data`` is the file, ``taken`` the fields that hold the text, ``refused`` files of which one field is wrong.
    """

    def __init__(self, model: type[Value], data: dict[str, Any]) -> None:
        self.model, self.data = model, copy.deepcopy(data)
        self.taken: set[str] = set()
        self.refused: list[dict[str, Any]] = []
        self._schema = model.model_json_schema(by_alias=True, mode="validation")
        for _ in range(_DEEPEST):
            for path, sub in list(self._missing(self._schema, self.data, ())):
                self._try(path, self._sample(sub))
        for path, key in list(self._strings(self._schema, self.data, ())):
            name = re.sub(r"\.\d+", "", ".".join(map(str, path))) + (" (key)" if key else "")
            if self._try(path, EVIL, key=key) or self._try(path, SHORT, key=key):
                self.taken.add(name)
            else:
                self.refused.append(self._with(path, EVIL, key=key))

    def _try(self, path: _Path, value: object, *, key: bool = False) -> bool:
        """Keep ``value`` at ``path``, or as its last key, if the model lets the file through, and say so."""
        trial = self._with(path, value, key=key)
        try:
            self.model.from_data(trial, "x")
        except AttnconfError:
            return False
        self.data = trial
        return True

    def _with(self, path: _Path, value: object, *, key: bool) -> dict[str, Any]:
        trial = copy.deepcopy(self.data)
        place: Any = trial
        for step in path[:-1]:
            place = place[step]
        if key:
            place[str(value)] = place.pop(path[-1])
        else:
            place[path[-1]] = value
        return trial

    def _resolved(self, schema: dict[str, Any], data: object) -> dict[str, Any]:
        if "$ref" in schema:
            return self._resolved(self._schema["$defs"][schema["$ref"].rpartition("/")[2]], data)
        if "anyOf" in schema:
            types = {dict: "object", list: "array", str: "string"}
            found = [self._resolved(one, data) for one in schema["anyOf"] if one.get("type") != "null"]
            wanted = types.get(type(data))
            return next((one for one in found if one.get("type") == wanted), found[0])
        return schema

    def _missing(self, schema: dict[str, Any], data: object, path: _Path) -> Iterator[tuple[_Path, dict[str, Any]]]:
        """Yield the optional fields that the file leaves out, or leaves empty."""
        schema = self._resolved(schema, data)
        if isinstance(data, dict):
            for name, sub in schema.get("properties", {}).items():
                if data.get(name) in (None, "", [], {}):
                    yield (*path, name), sub
                else:
                    yield from self._missing(sub, data[name], (*path, name))
            if isinstance(sub := schema.get("additionalProperties"), dict):
                for name, one in data.items():
                    yield from self._missing(sub, one, (*path, name))
        elif isinstance(data, list) and isinstance(schema.get("items"), dict):
            for index, one in enumerate(data):
                yield from self._missing(schema["items"], one, (*path, index))

    def _strings(self, schema: dict[str, Any], data: object, path: _Path) -> Iterator[tuple[_Path, bool]]:
        """Yield the place of every string, innermost first: a key is renamed once all below it is done."""
        schema = self._resolved(schema, data)
        if isinstance(data, dict):
            for name, one in data.items():
                named = schema.get("properties", {})
                sub = named.get(name, schema.get("additionalProperties"))
                if isinstance(sub, dict):
                    yield from self._strings(sub, one, (*path, name))
            for name in list(data)[:1] if isinstance(schema.get("additionalProperties"), dict) else ():
                yield (*path, name), True
        elif isinstance(data, list) and isinstance(schema.get("items"), dict):
            for index, one in enumerate(data):
                yield from self._strings(schema["items"], one, (*path, index))
        elif isinstance(data, str) and "const" not in schema:
            yield path, False

    def _sample(self, schema: dict[str, Any]) -> object:
        """Return a small value that a field may have."""
        schema = self._resolved(schema, None)
        if "const" in schema or "enum" in schema:
            return schema.get("const", (schema.get("enum") or [None])[0])
        kind = schema.get("type")
        if kind == "array":
            return [self._sample(schema.get("items", {}))]
        if kind == "object":
            named = schema.get("properties", {})
            if isinstance(schema.get("additionalProperties"), dict):
                return {"x": self._sample(schema["additionalProperties"])}
            return {name: self._sample(sub) for name, sub in named.items() if name in schema.get("required", ())}
        samples = {"string": "x", "integer": schema.get("minimum", 1), "number": 1.0, "boolean": False}
        return samples.get(str(kind))


def toml(data: object) -> str:
    """Return ``data`` as one TOML document: tables inline."""
    assert isinstance(data, dict)
    return "".join(f"{_quoted(name)} = {_toml(value)}\n" for name, value in data.items())


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return (
            "{" + ", ".join(f"{_quoted(name)} = {_toml(one)}" for name, one in value.items() if one is not None) + "}"
        )
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return _quoted(value) if isinstance(value, str) else str(value)


def _quoted(text: str) -> str:
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in text)
    return f'"{plain}"'
