"""Tensors of a dump: their shapes and strides without reading them, and the few whose numbers are needed."""

from __future__ import annotations

import json
import math
import mmap
import pickle
import struct
from typing import TYPE_CHECKING, Any

import torch

from attnconf.errors import InvalidInputError, one_line

if TYPE_CHECKING:
    from pathlib import Path

_SAFE = {
    "I32": torch.int32,
    "I64": torch.int64,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F32": torch.float32,
    "F64": torch.float64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
"""Dtypes by the names of safetensors, of the numbers that are read."""

_HEADER = 8
_MOST_HEADER = 1 << 20
MOST_NUMBERS = 1 << 22
"""Numbers of a tensor that is read: tables and lengths have far fewer."""


def load_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a dump by their keys, mapped and not read.

    Raises ``InvalidInputError`` with the file for one that is missing or damaged. Nothing in a file is executed.
    """
    plain, safe = folder / "inputs.pt", folder / "inputs.safetensors"
    if plain.is_file():
        return _of_torch(plain)
    if safe.is_file():
        return _of_safetensors(safe)
    given = "it has no inputs.pt and no inputs.safetensors"
    raise InvalidInputError(str(folder), given=given, allowed="a dump whose inputs were written")


def numbers(tensor: torch.Tensor, source: str) -> list[Any]:
    """Return the numbers of a small tensor. Raises ``InvalidInputError`` about ``source`` for a large one."""
    if tensor.numel() > MOST_NUMBERS:
        raise InvalidInputError(source, given=f"{tensor.numel():,} numbers", allowed=f"at most {MOST_NUMBERS:,}")
    found: list[Any] = tensor.tolist()
    return found


def _of_torch(path: Path) -> dict[str, torch.Tensor]:
    allowed = "a dictionary of tensors, as torch.save writes it"
    try:
        data = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise InvalidInputError(str(path), given=one_line(error), allowed=allowed) from None
    if not (isinstance(data, dict) and all(isinstance(one, torch.Tensor) for one in data.values())):
        raise InvalidInputError(str(path), given=f"a {type(data).__name__}", allowed=allowed)
    return {str(name): one for name, one in data.items()}


def _of_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors; those of dtypes that are never read have shapes alone."""
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        (length,) = struct.unpack("<Q", data[:_HEADER])
        header = json.loads(data[_HEADER : _HEADER + min(length, _MOST_HEADER)])
        header.pop("__metadata__", None)
        start = _HEADER + length
        return {str(name): _one(data, start, one) for name, one in header.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        allowed = "a file of safetensors"
        raise InvalidInputError(str(path), given=one_line(error), allowed=allowed) from None


def _one(data: mmap.mmap, start: int, entry: dict[str, Any]) -> torch.Tensor:
    shape = [int(size) for size in entry["shape"]]
    if entry["dtype"] not in _SAFE:
        return torch.empty(shape, device="meta")
    dtype = _SAFE[entry["dtype"]]
    count, begin = math.prod(shape), start + int(entry["data_offsets"][0])
    if not count:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(data, dtype=dtype, count=count, offset=begin).view(shape)
