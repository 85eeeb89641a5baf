from __future__ import annotations

import pytest

from storage.cleaner.index_entries import OFFSET_ENTRY, RELATIVE_MAX, TIME_ENTRY, IndexEntries
from storage.record.errors import CorruptBatchError


def entries(*batches: tuple[int, int], interval: int = 100,
            size_max: int = 1000) -> tuple[list[object], list[object]]:
    """Batches of 60 bytes, (last offset, timestamp), in a segment that begins at 1000."""
    made = IndexEntries(1000, interval, size_max)
    for index, (last_offset, timestamp) in enumerate(batches):
        made.add(index * 60, 60, last_offset, timestamp)
    made.finish()
    return list(OFFSET_ENTRY.iter_unpack(made.offset_index)), list(TIME_ENTRY.iter_unpack(made.time_index))


def test_an_entry_comes_with_the_batch_after_the_interval() -> None:
    offsets, times = entries((1000, 5), (1003, 9), (1005, 7), (1006, 8), (1009, 11))
    assert offsets == [(5, 120), (9, 240)]
    assert times == [(9, 3), (11, 9)]


def test_the_time_index_ends_with_the_largest_timestamp() -> None:
    assert entries((1000, 5)) == ([], [(5, 0)])
    assert entries((1000, -1)) == ([], [])


def test_a_full_index_takes_no_more_but_the_last_time() -> None:
    offsets, times = entries(*((1000 + index, index) for index in range(9)), interval=0, size_max=24)
    assert len(offsets) == 3
    assert times == [(1, 1), (8, 8)]


@pytest.mark.parametrize(("position", "offset"), [
    (0, 1000 + RELATIVE_MAX + 1), (RELATIVE_MAX - 59, 1000), (0, 999)])
def test_what_an_index_cannot_say_is_an_error(position: int, offset: int) -> None:
    with pytest.raises(CorruptBatchError):
        IndexEntries(1000, 100, 1000).add(position, 60, offset, 0)
