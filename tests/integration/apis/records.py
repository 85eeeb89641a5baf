"""Record batches for requests: well-formed ones, and ones with a header that lies.

Runs in: the test process.
"""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from storage.record.batch import HEADER as HEADER_STRUCT
from storage.record.batch import BatchHeader, iterate_extents, read_header, write_crc
from storage.record.records import NO_PRODUCER, Producer, Record, build_batch, iterate_records

OUTPUT_BYTES_MAX = 64 << 20


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def batch(
    *values: bytes | None,
    timestamps: Sequence[int] | None = None,
    keys: Sequence[bytes | None] | None = None,
    codec: int = 0,
    producer: tuple[int, int, int] = NO_PRODUCER,
    **header: int,
) -> bytes:
    """One batch of these values. `header` overrides fields after building; the checksum fits nevertheless.

    producer: (id, epoch, first sequence). timestamps default to now.
    """
    times = timestamps or [now_ms()] * len(values)
    records = [
        Record(index, times[index], keys[index] if keys else None, value) for index, value in enumerate(values)
    ]
    built = bytearray(build_batch(records, attributes=codec, producer=Producer(*producer)))
    return with_header(built, **header) if header else bytes(built)


def with_header(data: bytes | bytearray, **fields: int) -> bytes:
    """The batch with other header fields, its checksum made to fit unless `crc` itself is given."""
    changed = bytearray(data)
    header = read_header(changed)._replace(**fields)
    HEADER_STRUCT.pack_into(changed, 0, *header)
    if "crc" not in fields:
        write_crc(memoryview(changed), 0, len(changed))
    return bytes(changed)


def of_size(size_bytes: int, **arguments: Any) -> bytes:
    """A batch of one record of exactly this size, or a few bytes less."""
    overhead = len(batch(b"", **arguments)) + 8
    return batch(bytes(size_bytes - overhead), **arguments)


def headers(data: bytes) -> list[BatchHeader]:
    """Headers of the whole batches; a cut last one is left out, as clients do."""
    return [read_header(data, extent.position) for extent in iterate_extents(data, allow_partial=True)]


def records_of(data: bytes) -> list[Record]:
    """Every record of the whole batches."""
    return [record for extent in iterate_extents(data, allow_partial=True)
            for record in iterate_records(data, extent.position, output_size_bytes_max=OUTPUT_BYTES_MAX)]


def values_of(data: bytes) -> list[bytes | None]:
    return [record.value for record in records_of(data)]


class LegacyMessage(NamedTuple):
    """A message of format v0 or v1."""

    magic: int
    value: bytes
    timestamp: int = 0


def message_set(messages: Iterable[LegacyMessage]) -> bytes:
    """An uncompressed message set of the formats before 0.11."""
    parts = []
    for offset, message in enumerate(messages):
        time_field = struct.pack(">q", message.timestamp) if message.magic else b""
        body = struct.pack(">bb", message.magic, 0) + time_field
        body += struct.pack(">ii", -1, len(message.value)) + message.value
        parts.append(struct.pack(">qiI", offset, len(body) + 4, zlib.crc32(body)) + body)
    return b"".join(parts)
