"""First record at a time, largest time: against a plain walk over all records."""
from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from storage.helpers.timestamp_lookup import max_timestamp_lookup, timestamp_lookup
from storage.record.batch import BATCH_OVERHEAD, write_crc
from storage.record.records import Record, build_batch
from tests.storage.record.golden import BATCHES, TIME

TIMES = [[5, 3], [1, 9, 2], [4], [9, 12], [7, 7]]


@pytest.fixture
def fd() -> Iterator[int]:
    fd = os.memfd_create("segment")
    yield fd
    os.close(fd)


def write(fd: int, codec: int = 0) -> tuple[list[Record], int]:
    records, position = [], 0
    for times in TIMES:
        batch = [Record(100 + len(records) + i, TIME + time, None, b"v" * 50) for i, time in enumerate(times)]
        records += batch
        position += os.pwrite(fd, build_batch(batch, attributes=codec, leader_epoch=4), position)
    return records, position


@pytest.mark.parametrize("codec", range(5))
def test_first_record_of_at_least_the_time(fd: int, codec: int) -> None:
    records, end = write(fd, codec)
    for time in range(14):
        for starting_offset in (0, 104, 108):
            wanted = (r for r in records if r.timestamp >= TIME + time and r.offset >= starting_offset)
            first = next(wanted, None)
            expected = (first.offset, first.timestamp, 4, []) if first else (-1, -1, -1, [])
            assert timestamp_lookup(fd, 0, end, TIME + time, starting_offset=starting_offset) == expected


def test_largest_time(fd: int) -> None:
    _, end = write(fd)
    assert max_timestamp_lookup(fd, 0, end, TIME + 12) == (107, TIME + 12, 4, [])
    assert max_timestamp_lookup(fd, 0, end, TIME + 11).offset == -1


def test_limit_is_not_crossed(fd: int) -> None:
    _, end = write(fd)
    assert timestamp_lookup(fd, 0, end - 1, TIME + 7, starting_offset=108).offset == -1
    assert timestamp_lookup(fd, 0, end + 1000, TIME + 7, starting_offset=108).offset == 108
    assert timestamp_lookup(fd, end, end, TIME).offset == -1


def test_batch_that_does_not_decode_is_stepped_over_and_reported(fd: int) -> None:
    broken = bytearray(build_batch([Record(0, TIME, None, b"value")]))
    broken[BATCH_OVERHEAD] = 0x7F
    write_crc(memoryview(broken), 0, len(broken))
    os.write(fd, bytes(broken) + build_batch([Record(1, TIME, None, b"")]))
    assert timestamp_lookup(fd, 0, 1000, TIME) == (1, TIME, -1, [0])


def test_old_formats(fd: int) -> None:
    data = BATCHES["v0-gzip"] + BATCHES["v1-lz4"]
    os.write(fd, data)
    assert timestamp_lookup(fd, 0, len(data), TIME + 1) == (43, TIME + 5, -1, [])
    assert timestamp_lookup(fd, 0, len(data), TIME + 6).offset == -1
    assert timestamp_lookup(fd, 0, len(BATCHES["v0-gzip"]), 0).offset == -1
