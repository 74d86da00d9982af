"""Read and write the wire format of protocol buffers, one level deep: what ONNX files are made of.

https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_VARINT, _LENGTH_DELIMITED = 0, 2
_FIXED_LENGTHS = {1: 8, 5: 4}


class Field(NamedTuple):
    """A field of a message: its number, its value, and where it starts and ends in the message.

    The value of a length-delimited or fixed-length field is bytes, that of a varint an integer.
    """

    number: int
    value: bytes | int
    start: int
    end: int


def read_fields(message: bytes) -> Iterator[Field]:
    """Yield the fields of a message in order; raise ValueError where the bytes are no message."""
    at = 0
    while at < len(message):
        start = at
        tag, at = _read_varint(message, at)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise ValueError("field number 0")
        value: bytes | int
        if wire == _VARINT:
            value, at = _read_varint(message, at)
        else:
            if wire == _LENGTH_DELIMITED:
                size, at = _read_varint(message, at)
            elif wire in _FIXED_LENGTHS:
                size = _FIXED_LENGTHS[wire]
            else:
                raise ValueError(f"wire type {wire}")
            if at + size > len(message):
                raise ValueError("a field reaches beyond the end")
            value = message[at : at + size]
            at += size
        yield Field(number, value, start, at)


def integers(value: bytes | int) -> tuple[int, ...]:
    """Return the integers of a repeated field, which are one by one, or packed into bytes."""
    if isinstance(value, int):
        return (value,)
    found, at = [], 0
    while at < len(value):
        number, at = _read_varint(value, at)
        found.append(number)
    return tuple(found)


def bytes_field(number: int, value: bytes) -> bytes:
    """Return a length-delimited field."""
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(value)) + value


def integer_field(number: int, value: int) -> bytes:
    """Return a varint field."""
    return _varint(number << 3 | _VARINT) + _varint(value)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number has no end")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
