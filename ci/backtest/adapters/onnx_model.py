"""One operator as an ONNX model, in the bytes of its protobuf: what a runtime is given to call a kernel of its own.

The field numbers are those of ``onnx.proto3``; the package ``onnx`` itself is not needed for them.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FLOAT, FLOAT16, INT32, INT64, BOOL = 1, 10, 6, 7, 9
"""``TensorProto.DataType``."""

_IR_VERSION = 10
_LOW_BITS = 0x7F
_FLOAT_ATTRIBUTE, _INT_ATTRIBUTE = 1, 2


def one_operator(  # noqa: PLR0913 - what a node is
    operator: str,
    domains: Mapping[str, int],
    domain: str,
    inputs: Sequence[tuple[str, int]],
    outputs: Sequence[tuple[str, int]],
    attributes: Mapping[str, float],
) -> bytes:
    """Return a model of one node: its inputs and outputs are (name, element type), an empty name is left out.

    ``domains`` has the version of each domain; attributes are float or int, as their values are.
    """
    node = b"".join(
        [
            *(_text(1, name) for name, _ in inputs),
            *(_text(2, name) for name, _ in outputs),
            _text(4, operator),
            *(_bytes(5, _attribute(name, value)) for name, value in attributes.items()),
            _text(7, domain),
        ]
    )
    graph = b"".join(
        [
            _bytes(1, node),
            _text(2, "one"),
            *(_bytes(11, _value(*one)) for one in inputs if one[0]),
            *(_bytes(12, _value(*one)) for one in outputs if one[0]),
        ]
    )
    versions = (_bytes(8, _text(1, name) + _number(2, version)) for name, version in domains.items())
    return b"".join([_number(1, _IR_VERSION), *versions, _bytes(7, graph)])


def _attribute(name: str, value: float) -> bytes:
    if isinstance(value, int):
        return _text(1, name) + _number(3, value) + _number(20, _INT_ATTRIBUTE)
    return _text(1, name) + _tag(2, 5) + struct.pack("<f", value) + _number(20, _FLOAT_ATTRIBUTE)


def _value(name: str, kind: int) -> bytes:
    return _text(1, name) + _bytes(2, _bytes(1, _number(1, kind)))


def _text(field: int, text: str) -> bytes:
    return _bytes(field, text.encode())


def _bytes(field: int, content: bytes) -> bytes:
    return _tag(field, 2) + _varint(len(content)) + content


def _number(field: int, number: int) -> bytes:
    return _tag(field, 0) + _varint(number % 2**64)  # a negative number is ten bytes of its two's complement


def _tag(field: int, wire: int) -> bytes:
    return _varint(field << 3 | wire)


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > _LOW_BITS:
        found.append(number & _LOW_BITS | 0x80)
        number >>= 7
    return bytes([*found, number])
