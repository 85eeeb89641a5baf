"""ListOffsets by time: the step that has to decode records.

Runs in: helper processes, asked by the front end, which found segment and start position through the time
index (`storage.reader`). No state; the file is only read.

A batch whose inside does not decode (a client can produce one: the broker validates headers) is stepped over
and reported, so that one bad batch does not make the whole partition unsearchable.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from storage.fs import OS_FILES, FileLayer
from storage.log.segment_walk import WalkedBatch, walk_batches
from storage.record.batch import MAGIC_V2, NO_LEADER_EPOCH, NO_TIMESTAMP
from storage.record.errors import RecordError
from storage.record.legacy import iterate_legacy_records, read_message
from storage.record.records import iterate_timestamps

# One batch, unpacked. Above every sane message.max.bytes times a compression ratio of 100 and more; a helper
# may use that much for a moment, a bomb may not use more.
OUTPUT_SIZE_BYTES_MAX: Final = 512 << 20
NO_OFFSET: Final = -1


class TimestampLookup(NamedTuple):
    """offset -1: no such record. leader_epoch -1: the batch has none. undecodable_positions: see above."""

    offset: int
    timestamp: int
    leader_epoch: int
    undecodable_positions: list[int]


def timestamp_lookup(fd: int, start_position: int, limit: int, timestamp: int, *, starting_offset: int = 0,
                     files: FileLayer = OS_FILES) -> TimestampLookup:
    """The first record with a time of at least `timestamp` and an offset of at least `starting_offset`.

    Looks at the batches in [start_position, limit) of one segment, decoding only those whose max timestamp
    is high enough.
    """
    def is_wanted(record_offset: int, record_timestamp: int) -> bool:
        return record_timestamp >= timestamp and record_offset >= starting_offset

    return _search(fd, start_position, limit, files,
                   lambda max_timestamp: max_timestamp >= timestamp, is_wanted)


def max_timestamp_lookup(fd: int, start_position: int, limit: int, max_timestamp: int, *,
                         files: FileLayer = OS_FILES) -> TimestampLookup:
    """The first record whose time is exactly `max_timestamp` (ListOffsets -3, from v7)."""
    return _search(fd, start_position, limit, files,
                   lambda batch_timestamp: batch_timestamp == max_timestamp,
                   lambda _, record_timestamp: record_timestamp == max_timestamp)


def _search(fd: int, position: int, limit: int, files: FileLayer, batch_may_hold: Callable[[int], bool],
            is_wanted: Callable[[int, int], bool]) -> TimestampLookup:
    undecodable: list[int] = []
    end = min(limit, files.size_bytes(fd))
    for batch in walk_batches(lambda size, at: files.pread(fd, size, at), position, end):
        if batch.header is not None and not batch_may_hold(batch.header.max_timestamp):
            continue
        try:
            for offset, timestamp in _timestamps(fd, batch, batch_may_hold, files):
                if is_wanted(offset, timestamp):
                    epoch = NO_LEADER_EPOCH if batch.header is None else batch.header.partition_leader_epoch
                    return TimestampLookup(offset, timestamp, epoch, undecodable)
        except RecordError:
            undecodable.append(batch.position)
    return TimestampLookup(NO_OFFSET, NO_TIMESTAMP, NO_LEADER_EPOCH, undecodable)


def _timestamps(fd: int, batch: WalkedBatch, batch_may_hold: Callable[[int], bool],
                files: FileLayer) -> Iterator[tuple[int, int]]:
    """(offset, timestamp) of the batch's records; nothing for a wrapper whose own time excludes them."""
    data = bytearray(batch.size_bytes)
    data = data[:files.read_into(fd, data, batch.position)]
    if batch.magic == MAGIC_V2:
        yield from iterate_timestamps(data, output_size_bytes_max=OUTPUT_SIZE_BYTES_MAX)
    elif batch_may_hold(read_message(data, 0, len(data)).timestamp):
        for record in iterate_legacy_records(data, output_size_bytes_max=OUTPUT_SIZE_BYTES_MAX):
            yield record.offset, record.timestamp
