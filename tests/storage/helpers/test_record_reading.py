"""Chunks of a coordinator's log: what is left of each, and where the next begins."""
from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from storage.helpers.record_reading import (
    ABORT,
    COMMIT,
    NO_PRODUCER,
    RECORD,
    TRANSACTIONAL_RECORD,
    read_records,
)
from storage.record.batch import BATCH_OVERHEAD, TRANSACTIONAL_BIT, write_crc
from storage.record.control import CONTROL_ABORT, CONTROL_COMMIT, build_end_transaction_batch
from storage.record.records import Producer, Record, build_batch

ALL = 1 << 30
PRODUCER = Producer(7, 0, 0)


@pytest.fixture
def fd() -> Iterator[int]:
    fd = os.memfd_create("segment")
    yield fd
    os.close(fd)


def write(fd: int, *batches: bytes) -> int:
    position = 0
    for batch in batches:
        position += os.pwrite(fd, batch, position)
    return position


def plain(offset: int, *pairs: tuple[bytes, bytes | None], codec: int = 0) -> bytes:
    records = [Record(offset + index, 0, key, value) for index, (key, value) in enumerate(pairs)]
    return build_batch(records, attributes=codec)


def transactional(offset: int, key: bytes, value: bytes) -> bytes:
    return build_batch([Record(offset, 0, key, value)], attributes=TRANSACTIONAL_BIT, producer=PRODUCER)


@pytest.mark.parametrize("codec", range(5))
def test_of_records_with_one_key_the_last_is_left(fd: int, codec: int) -> None:
    end = write(fd, plain(0, (b"a", b"1"), (b"b", b"1"), codec=codec), plain(2, (b"a", b"2"), (b"c", None)))
    assert read_records(fd, 0, end, ALL) == ([
        (RECORD, 0, NO_PRODUCER, b"b", b"1"), (RECORD, 2, NO_PRODUCER, b"a", b"2"),
        (RECORD, 2, NO_PRODUCER, b"c", None),
    ], end, [])  # fmt: skip


def test_transactions_and_their_markers_keep_their_order(fd: int) -> None:
    end = write(
        fd, transactional(0, b"a", b"1"), build_end_transaction_batch(CONTROL_COMMIT, 0, PRODUCER, 0, offset=1),
        transactional(2, b"a", b"2"), build_end_transaction_batch(CONTROL_ABORT, 0, PRODUCER, 0, offset=3),
        plain(4, (b"a", b"3")),
    )  # fmt: skip
    assert read_records(fd, 0, end, ALL).entries == [
        (TRANSACTIONAL_RECORD, 0, 7, b"a", b"1"), (COMMIT, 1, 7, b"", None),
        (TRANSACTIONAL_RECORD, 2, 7, b"a", b"2"), (ABORT, 3, 7, b"", None), (RECORD, 4, NO_PRODUCER, b"a", b"3"),
    ]  # fmt: skip


def test_chunks_follow_each_other_without_gap(fd: int) -> None:
    batches = [plain(offset, (b"key-%d" % offset, b"v" * 100)) for offset in range(50)]
    end = write(fd, *batches)
    position, keys, count = 0, [], 0
    while position < end:
        entries, position, undecodable = read_records(fd, position, end, 1000)
        assert entries and not undecodable
        keys += [entry[3] for entry in entries]
        count += 1
    assert keys == [b"key-%d" % offset for offset in range(50)]
    assert (position, count) == (end, 9)


def test_a_batch_larger_than_a_chunk_is_read_whole(fd: int) -> None:
    end = write(fd, plain(0, (b"a", b"v" * 10_000)), plain(1, (b"b", b"1")))
    first = read_records(fd, 0, end, 1)
    assert [entry[3] for entry in first.entries] == [b"a"]
    assert [entry[3] for entry in read_records(fd, first.next_position, end, 1).entries] == [b"b"]


def test_the_limit_is_not_crossed(fd: int) -> None:
    first = plain(0, (b"a", b"1"))
    write(fd, first, plain(1, (b"b", b"1")))
    assert read_records(fd, 0, len(first), ALL).entries == [(RECORD, 0, NO_PRODUCER, b"a", b"1")]


def test_a_batch_that_does_not_decode_is_stepped_over_and_reported(fd: int) -> None:
    broken = bytearray(plain(0, (b"a", b"1")))
    broken[BATCH_OVERHEAD] = 0x7F
    write_crc(memoryview(broken), 0, len(broken))
    end = write(fd, bytes(broken), plain(1, (b"b", b"1")))
    assert read_records(fd, 0, end, ALL) == ([(RECORD, 1, NO_PRODUCER, b"b", b"1")], end, [0])


def test_what_is_no_batch_ends_the_segment_and_is_reported(fd: int) -> None:
    first = plain(0, (b"a", b"1"))
    end = write(fd, first, bytes(100), plain(1, (b"b", b"1")))
    assert read_records(fd, 0, end, ALL) == ([(RECORD, 0, NO_PRODUCER, b"a", b"1")], end, [len(first)])


def test_records_without_a_key_say_nothing_here(fd: int) -> None:
    end = write(fd, build_batch([Record(0, 0, None, b"1")]))
    assert read_records(fd, 0, end, ALL) == ([], end, [])
