"""Zig-zag variable-length integers, as records carry them. PURE.

Runs in: helper processes, storage (rare). No state. Nearly all varints of a record are one or two bytes, so
those cases come first.
"""
from __future__ import annotations

from storage.record.batch import Buffer
from storage.record.errors import InvalidRecordsError

VARINT_SIZE_BYTES_MAX = 5
VARLONG_SIZE_BYTES_MAX = 10
_INT32_MAX = (1 << 31) - 1
_INT64_MASK = (1 << 64) - 1


def read_varint(view: Buffer, position: int, end: int) -> tuple[int, int]:
    """(value, next position) of a 32-bit varint. InvalidRecordsError if it is cut off or too long."""
    if position + 1 < end:
        byte, second = view[position], view[position + 1]
        if byte < 0x80:
            return (byte >> 1) ^ -(byte & 1), position + 1
        if second < 0x80:
            byte += (second - 1) << 7
            return (byte >> 1) ^ -(byte & 1), position + 2
    return _read(view, position, end, VARINT_SIZE_BYTES_MAX, 0xFFFFFFFF)


def read_varlong(view: Buffer, position: int, end: int) -> tuple[int, int]:
    """(value, next position) of a 64-bit varint. InvalidRecordsError if it is cut off or too long."""
    if position + 1 < end:
        byte, second = view[position], view[position + 1]
        if byte < 0x80:
            return (byte >> 1) ^ -(byte & 1), position + 1
        if second < 0x80:
            byte += (second - 1) << 7
            return (byte >> 1) ^ -(byte & 1), position + 2
    return _read(view, position, end, VARLONG_SIZE_BYTES_MAX, _INT64_MASK)


def _read(view: Buffer, position: int, end: int, size_max: int, mask: int) -> tuple[int, int]:
    value = 0
    shift = 0
    for index in range(position, min(end, position + size_max)):
        byte = view[index]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            value &= mask
            return (value >> 1) ^ -(value & 1), index + 1
        shift += 7
    if end - position < size_max:
        raise InvalidRecordsError(position, "variable-length integer cut off")
    raise InvalidRecordsError(position, f"variable-length integer longer than {size_max} bytes")


def encode_varint(value: int) -> bytes:
    """For 32- and 64-bit values alike; the caller keeps to the range."""
    rest = (value << 1) ^ (value >> 63)
    rest &= _INT64_MASK
    if rest < 0x80:
        return bytes((rest,))
    output = bytearray()
    while rest >= 0x80:
        output.append(rest & 0x7F | 0x80)
        rest >>= 7
    output.append(rest)
    return bytes(output)
