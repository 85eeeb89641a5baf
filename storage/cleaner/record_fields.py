"""The few fields of a v2 batch's records that compaction looks at, found in one tight loop. PURE.

Runs in: the cleaner's helper process. No state. Compaction's time is spent here and in `offset_map.py`, so
varints of one and two bytes are decoded in line, and what is not needed is not decoded: of the value, whether
it is null (the lowest bit of a zig-zag varint is the sign). Bytes are hostile all the same: keys, offsets and
record extents that do not fit raise InvalidRecordsError; a record's value and headers are copied unseen.

    record: varint length; int8 attributes; varlong timestamp delta; varint offset delta;
            varint key length (-1 null), key; varint value length (-1 null), value; headers
"""
from __future__ import annotations

from typing import NamedTuple

from storage.record.errors import InvalidRecordsError
from storage.record.varint import read_varint, read_varlong


class RecordFields(NamedTuple):
    """bounds: where each record begins, and where the last one ends. offset_deltas and keys (None if null): one
    per record. tombstones: indices of records without value."""

    bounds: list[int]
    offset_deltas: list[int]
    keys: list[bytes | None]
    tombstones: list[int]


def split_records(body: bytes, count: int) -> RecordFields:
    """The fields of all `count` records; `body` has to end with the last one."""
    try:
        fields = _split(body, count)
    except IndexError:
        raise InvalidRecordsError(len(body), f"the {count} records do not fit into {len(body)} bytes") from None
    if fields.bounds[-1] != len(body):
        raise InvalidRecordsError(fields.bounds[-1], f"{len(body) - fields.bounds[-1]} bytes behind the last of "
                                  f"{count} records")
    return fields


def _split(body: bytes, count: int) -> RecordFields:
    """IndexError if a field lies beyond the body."""
    bounds, offset_deltas, tombstones = [0], [], []
    keys: list[bytes | None] = []
    cursor = 0
    for index in range(count):
        byte = body[cursor]
        second = body[cursor + 1]
        if byte < 0x80:
            at = cursor + 1
            end = at + (byte >> 1)
        elif second < 0x80:
            at = cursor + 2
            end = at + ((byte & 0x7F | second << 7) >> 1)
        else:
            length, at = read_varint(body, cursor, len(body))
            end = at + length
        negative = byte & 1
        at += 1
        while body[at] >= 0x80:
            at += 1
        byte = body[at + 1]
        if byte < 0x80:
            offset_deltas.append(byte >> 1)
            at += 2
        elif (second := body[at + 2]) < 0x80:
            offset_deltas.append((byte & 0x7F | second << 7) >> 1)
            at += 3
        else:
            delta, at = read_varint(body, at + 1, len(body))
            offset_deltas.append(delta)
        negative |= byte & 1
        byte = body[at]
        if byte < 0x80 and not byte & 1:
            start = at + 1
            at = start + (byte >> 1)
            keys.append(body[start:at])
        else:
            length, start = read_varint(body, at, len(body))
            at = start + max(length, 0)
            keys.append(None if length < 0 else body[start:at])
        if body[at] & 1:
            tombstones.append(index)
        if at >= end or negative:
            raise InvalidRecordsError(cursor, f"record {index} ends at {end}: its key, its length or its offset "
                                      "does not fit")
        bounds.append(end)
        cursor = end
    return RecordFields(bounds, offset_deltas, keys, tombstones)


class TimedRecord(NamedTuple):
    """attributes, rest: positions of the byte behind the length, and of the offset delta."""

    timestamp_delta: int
    attributes: int
    rest: int


def time_of(body: bytes, start: int, end: int) -> TimedRecord:
    """Of the record that begins at `start`."""
    _, attributes = read_varint(body, start, end)
    delta, rest = read_varlong(body, attributes + 1, end)
    return TimedRecord(delta, attributes, rest)
