"""The records that every client writes, and the digest by which what comes back is compared.

Record i is a function of i alone, so that programs in Python, Java and Go make the same records, and
one expected digest, computed here, holds for every client and codec. A digest covers, per partition and
in offset order, offset, timestamp, key, value and headers; null and empty keys and values, tombstones
and null header values occur. `plain` records leave out what a line of text cannot carry (nulls,
headers, timestamps), for kcat and the console tools.
Runs in: the test process. Pure.
"""
from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

PARTITIONS = 3
RECORDS_FULL = 100_000
RECORDS_SHORT = 10_000
_MASK = (1 << 64) - 1

Header = tuple[str, bytes | None]


class Record(NamedTuple):
    """A record as a consumer sees it; timestamp_ms is 0 where it is not compared."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header] = ()


def splitmix64(index: int) -> int:
    """A well-mixed 64-bit number of an index (SplitMix64's output function)."""
    mixed = (index + 1) * 0x9E3779B97F4A7C15 & _MASK
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & _MASK
    return mixed ^ mixed >> 31


def make_value(index: int) -> bytes:
    mixed = splitmix64(index)
    return f"{index}:{f'{mixed:016x}' * (1 + mixed % 12)}".encode()


def make_record(index: int, base_timestamp_ms: int) -> Record:
    """Record `index`: partition index % PARTITIONS, offset index // PARTITIONS."""
    key: bytes | None = f"key-{index}".encode()
    if index % 7 == 3:
        key = None
    elif index % 11 == 5:
        key = b""
    value = None if index % 13 == 6 else make_value(index)
    headers: Sequence[Header] = ()
    if index % 5 == 0:
        headers = (("index", str(index).encode()), ("null", None))
    return Record(index // PARTITIONS, base_timestamp_ms + index, key, value, headers)


def make_plain_record(index: int, partitions: int = PARTITIONS) -> Record:
    return Record(index // partitions, 0, f"key-{index}".encode(), make_value(index))


def digest(records: Iterable[Record]) -> str:
    """SHA-256 over records in the order given."""
    state = hashlib.sha256()
    for record in records:
        state.update(_encode(record))
    return state.hexdigest()


def _encode(record: Record) -> bytes:
    parts = [struct.pack(">qq", record.offset, record.timestamp_ms)]
    parts += _sized(record.key), _sized(record.value), struct.pack(">i", len(record.headers))
    for name, value in record.headers:
        parts += _sized(name.encode()), _sized(value)
    return b"".join(parts)


def _sized(data: bytes | None) -> bytes:
    return struct.pack(">i", -1) if data is None else struct.pack(">i", len(data)) + data


@lru_cache(maxsize=8)
def expected_digests(count: int, base_timestamp_ms: int) -> tuple[str, ...]:
    """The digest of each partition after records 0..count-1 were written to an empty topic."""
    return tuple(
        digest(make_record(index, base_timestamp_ms) for index in range(partition, count, PARTITIONS))
        for partition in range(PARTITIONS)
    )


@lru_cache(maxsize=8)
def expected_plain_digests(count: int, partitions: int) -> tuple[str, ...]:
    return tuple(
        digest(make_plain_record(index, partitions) for index in range(partition, count, partitions))
        for partition in range(partitions)
    )


def expected_offset_for_time(partition: int, timestamp_ms: int, base_timestamp_ms: int, count: int) -> int:
    """Offset of the first record of the partition with at least this timestamp; -1 when there is none."""
    first_index = max(timestamp_ms - base_timestamp_ms, 0)
    index = first_index + (partition - first_index) % PARTITIONS
    return index // PARTITIONS if index < count else -1
