"""Dump: one folder that FlashInfer wrote of one call, with its arguments by their names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from attnconf.capture.dumps.signature import parameters
from attnconf.capture.dumps.tensors import load_tensors, numbers
from attnconf.errors import InvalidInputError
from attnconf.files import read_text
from attnconf.values import parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import torch

_FILE = "metadata.jsonl"
_DTYPE = "torch."


@dataclass(frozen=True)
class Strided:
    """A tensor argument: its form as it was on its device, and the ``tensor`` itself, whose numbers may be read."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: str
    tensor: torch.Tensor


@dataclass(frozen=True)
class Dump:
    """One call of ``function``, such as ``BatchDecodeWithPagedKVCacheWrapper.run``, in process ``process``.

    ``owner`` tells wrappers apart, None for a function. ``arguments`` are those given, by name: tensors as ``Strided``,
    sequences as tuples; ``more`` are positional ones beyond the names.
    """

    folder: Path
    function: str
    process: int
    owner: int | None
    order: tuple[str, int]
    arguments: Mapping[str, Any]
    defaults: Mapping[str, object]
    more: tuple[Any, ...] = field(default=())

    def get(self, name: str) -> Any:  # noqa: ANN401 - an argument of any function
        """Return the argument ``name``, or its default, or None."""
        return self.arguments.get(name, self.defaults.get(name))

    def tensor(self, name: str) -> Strided:
        """Return the argument ``name``. Raises ``InvalidInputError`` where it is no tensor."""
        found = self.get(name)
        if not isinstance(found, Strided):
            raise InvalidInputError(str(self.folder), field=name, given=repr(found), allowed="a tensor")
        return found

    def whole(self, name: str) -> int:
        """Return the argument ``name``. Raises ``InvalidInputError`` where it is no whole number."""
        found = self.get(name)
        if not isinstance(found, int) or isinstance(found, bool):
            raise InvalidInputError(str(self.folder), field=name, given=repr(found), allowed="a whole number")
        return found

    def number(self, name: str, default: float = 1.0) -> float:
        """Return the argument ``name``, a number or a tensor of one; ``default`` where it is None."""
        found = self.get(name)
        if isinstance(found, Strided) and found.tensor.numel() == 1 and not found.tensor.is_meta:
            return float(found.tensor.item())
        if found is None:
            return default
        if not isinstance(found, int | float):
            raise InvalidInputError(str(self.folder), field=name, given=repr(found), allowed="a number")
        return float(found)

    def numbers(self, name: str) -> list[Any]:
        """Return the numbers of the tensor ``name``."""
        found = self.tensor(name)
        if found.tensor.is_meta:
            raise InvalidInputError(str(self.folder), field=name, given=found.dtype, allowed="whole numbers")
        return numbers(found.tensor, f"{self.folder}: {name}")


def is_dump(folder: Path) -> bool:
    """Return whether ``folder`` is one that FlashInfer wrote of a call."""
    return (folder / _FILE).is_file()


def function_of(folder: Path) -> str:
    """Return which function a dump is of, without its tensors. Raises ``InvalidInputError`` as ``read_dump``."""
    return _text(_last_record(folder), "function_name", str(folder / _FILE))


def read_dump(folder: Path) -> Dump:
    """Read one dump. Raises ``InvalidInputError`` with the file for one that is damaged."""
    data, source = _last_record(folder), str(folder / _FILE)
    name = _text(data, "function_name", source)
    tensors = load_tensors(folder)
    details = data.get("tensor_details")
    metadata = data.get("input_metadata")
    if not (isinstance(details, dict) and isinstance(metadata, dict)):
        raise InvalidInputError(
            source, given="without tensor_details or input_metadata", allowed="what FlashInfer writes"
        )
    try:
        known = parameters(_text(data, "function_signature", source))
        values = {key: _value(one, tensors, details) for key, one in metadata.items()}
        values |= {key: _strided(key, tensors, details) for key in tensors if "__" not in key}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        said = f"{type(error).__name__}: {error}"
        raise InvalidInputError(source, given=said, allowed="what FlashInfer writes") from None
    named = [one.name for one in known if not one.kind]
    given, more = _by_name(values, named)
    return Dump(
        folder=folder,
        function=name,
        process=int(data["process_id"]) if isinstance(data.get("process_id"), int) else 0,
        owner=data["self_id"] if isinstance(data.get("self_id"), int) else None,
        order=(
            str(data.get("timestamp", "")),
            data["call_sequence"] if isinstance(data.get("call_sequence"), int) else 0,
        ),
        arguments=given,
        defaults={one.name: one.default for one in known},
        more=more,
    )


def _last_record(folder: Path) -> dict[str, Any]:
    path = folder / _FILE
    lines = [line for line in read_text(path).splitlines() if line.strip()]
    if not lines:
        raise InvalidInputError(str(path), given="empty", allowed="a JSON object a line")
    data = parse_json(lines[-1], str(path))
    if not isinstance(data, dict):
        raise InvalidInputError(str(path), given=f"a {type(data).__name__}", allowed="a JSON object a line")
    return data


def _text(data: dict[str, Any], name: str, source: str) -> str:
    found = data.get(name)
    if not isinstance(found, str):
        raise InvalidInputError(source, field=name, given=ascii(found), allowed="a text")
    return found


def _by_name(values: Mapping[str, Any], names: Sequence[str]) -> tuple[dict[str, Any], tuple[Any, ...]]:
    found: dict[str, Any] = {}
    more: dict[int, Any] = {}
    for key, value in values.items():
        kind, _, rest = key.partition("_")
        if kind == "kwarg":
            found[rest] = value
        elif kind == "arg" and rest.isdecimal():
            if int(rest) < len(names):
                found[names[int(rest)]] = value
            else:
                more[int(rest)] = value
    return found, tuple(more[place] for place in sorted(more))


def _value(data: Any, tensors: Mapping[str, torch.Tensor], details: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """Return an argument out of its description."""
    if not isinstance(data, dict):
        return data
    kind = data.get("type")
    if kind == "torch.Tensor":
        key = data["tensor_key"]
        return Strided(tuple(data["shape"]), tuple(data["stride"]), _dtype(data["dtype"]), tensors[key])
    if kind in {"list", "tuple"} and not data.get("truncated"):
        return tuple(_value(one, tensors, details) for one in data["items"])
    if kind == "torch.dtype":
        return _dtype(data["value"])
    if kind == "enum":
        return data["value"]
    return None if kind == "NoneType" else f"a {kind}"


def _strided(key: str, tensors: Mapping[str, torch.Tensor], details: Mapping[str, Any]) -> Strided:
    form = details[key]
    return Strided(tuple(form["shape"]), tuple(form["stride"]), _dtype(form["dtype"]), tensors[key])


def _dtype(text: str) -> str:
    return str(text).removeprefix(_DTYPE)
