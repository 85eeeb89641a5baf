from __future__ import annotations

import pytest

from storage.log.segment_walk import CHUNK_SIZE_BYTES, Read, find_batch_of, first_batch, walk_batches
from storage.record.legacy import build_message
from storage.record.records import Record, build_batch

SIZES = (0, 10, 300, CHUNK_SIZE_BYTES - 61, CHUNK_SIZE_BYTES * 3)


def log_of(sizes: tuple[int, ...], count: int) -> tuple[bytes, list[int]]:
    """Batches of two records, value sizes in turn; with the positions where they begin."""
    data, positions = bytearray(), []
    for index in range(count):
        positions.append(len(data))
        value = b"v" * sizes[index % len(sizes)]
        data += build_batch([Record(index * 2, 5, None, value), Record(index * 2 + 1, 9, None, b"")])
    return bytes(data), positions


def reader(data: bytes) -> Read:
    return lambda size, position: data[position:position + size]


@pytest.mark.parametrize("size", SIZES)
def test_every_batch_is_met_whatever_its_size(size: int) -> None:
    data, positions = log_of((size,), 30)
    walked = list(walk_batches(reader(data), 0, len(data)))
    assert [batch.position for batch in walked] == positions
    assert [batch.last_offset for batch in walked] == [index * 2 + 1 for index in range(30)]
    assert {batch.max_timestamp for batch in walked} == {9}


def test_a_cut_last_batch_is_not_met() -> None:
    data, positions = log_of((10, 5000), 6)
    for cut in range(1, len(data) - positions[-1] + 1):
        walked = list(walk_batches(reader(data[:-cut]), 0, len(data) - cut))
        assert len(walked) == 5


def test_the_walk_ends_at_garbage() -> None:
    data, positions = log_of((100,), 3)
    damaged = bytearray(data)
    damaged[positions[1] + 8:positions[1] + 12] = (3).to_bytes(4, "big")
    assert len(list(walk_batches(reader(bytes(damaged)), 0, len(data)))) == 1
    assert list(walk_batches(reader(bytes(500)), 0, 500)) == []


def test_old_formats_are_walked_by_their_last_offset_and_timestamp() -> None:
    message = Record(3, 77, b"k", b"v")
    data = build_message(message, magic=1) + build_message(message._replace(offset=4), magic=0)
    first, second = walk_batches(reader(data), 0, len(data))
    assert (first.magic, first.last_offset, first.max_timestamp, first.header) == (1, 3, 77, None)
    assert (second.magic, second.last_offset, second.max_timestamp) == (0, 4, -1)


def test_find_gives_the_batch_that_holds_an_offset_or_the_next() -> None:
    data, positions = log_of((40,), 10)
    found = find_batch_of(reader(data), 7, 0, len(data))
    assert found is not None
    assert (found.position, found.base_offset, found.last_offset) == (positions[3], 6, 7)
    assert find_batch_of(reader(data), 20, 0, len(data)) is None


def test_the_first_batch_is_read_with_its_header_alone() -> None:
    data, _ = log_of((100_000,), 2)
    found = first_batch(lambda size, position: data[position:position + min(size, 61)], len(data))
    assert found is not None
    assert found.max_timestamp == 9
    assert first_batch(reader(b""), 0) is None
