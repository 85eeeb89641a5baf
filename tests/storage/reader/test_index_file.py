"""Binary search in index files over many pages, held or not, growing or cut."""
from __future__ import annotations

import pathlib
import struct
from collections.abc import Iterator

import pytest

from storage.reader import index_file
from storage.reader.errors import SegmentsChangedError
from storage.reader.file_pool import FilePool, OpenFile
from storage.reader.index_file import (
    ENTRIES_PER_PAGE,
    OFFSET_INDEX,
    OFFSET_INDEX_BY_POSITION,
    PAGES_PER_FILE,
    TIME_INDEX,
    IndexFile,
)


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "index"


@pytest.fixture
def file(path: pathlib.Path) -> Iterator[OpenFile]:
    path.write_bytes(b"")
    with FilePool().open({}, (0, ".index"), str(path)) as file:
        yield file


def entries(count: int) -> bytes:
    """Relative offsets 10, 20, ...; positions 5, 10, ..."""
    return b"".join(struct.pack(">ii", 10 * (i + 1), 5 * (i + 1)) for i in range(count))


COUNTS = [0, 1, 2, ENTRIES_PER_PAGE - 1, ENTRIES_PER_PAGE, ENTRIES_PER_PAGE + 1, 5 * ENTRIES_PER_PAGE, 5003]


@pytest.mark.parametrize("count", COUNTS)
def test_every_key_between_around_and_on_the_entries(path: pathlib.Path, file: OpenFile, count: int) -> None:
    path.write_bytes(entries(count))
    index = IndexFile(file, OFFSET_INDEX)
    assert index.entry_count == count
    slots = {-1, 0, 1, count // 3, count // 2, 511, 512, 513, 1024, count - 2, count - 1}
    for slot in slots & set(range(-1, count)):
        assert index.last_at_or_below(10 * (slot + 1)) == slot
        assert index.last_at_or_below(10 * (slot + 1) + 9) == slot
        assert index.first_at_or_above(10 * (slot + 1) + 1) == slot + 1
        if slot >= 0:
            assert index.entry(slot) == (10 * (slot + 1), 5 * (slot + 1))
    assert index.last_at_or_below(-1) == -1
    assert index.last_at_or_below(2**31 - 1) == count - 1
    assert index.first_at_or_above(2**31 - 1) == count
    assert (index.last_entry() is None) == (count == 0)


def test_search_by_the_second_field(path: pathlib.Path, file: OpenFile) -> None:
    path.write_bytes(entries(3000))
    index = IndexFile(file, OFFSET_INDEX_BY_POSITION)
    assert index.first_at_or_above(5001) == 1000
    assert index.first_at_or_above(5000) == 999


def test_entries_of_12_bytes(path: pathlib.Path, file: OpenFile) -> None:
    path.write_bytes(b"".join(struct.pack(">qi", 2**40 + i, i) for i in range(2000)))
    index = IndexFile(file, TIME_INDEX)
    assert [index.last_at_or_below(2**40 + i) for i in (-1, 0, 700, 1999, 2500)] == [-1, 0, 700, 1999, 1999]


def test_entry_being_appended_is_not_seen(path: pathlib.Path, file: OpenFile) -> None:
    path.write_bytes(entries(3)[:-1])
    assert IndexFile(file, OFFSET_INDEX).entry_count == 2
    assert IndexFile(file, OFFSET_INDEX).last_at_or_below(100) == 1


def test_growing_file(path: pathlib.Path, file: OpenFile) -> None:
    for count in (1, 2, 511, 512, 513, 1030):
        path.write_bytes(entries(count))
        assert IndexFile(file, OFFSET_INDEX).last_at_or_below(2**31 - 1) == count - 1
        assert IndexFile(file, OFFSET_INDEX).last_at_or_below(15) == 0


def test_pages_held_are_bounded(path: pathlib.Path, file: OpenFile) -> None:
    path.write_bytes(entries(20 * ENTRIES_PER_PAGE))
    for slot in range(0, 20 * ENTRIES_PER_PAGE, 100):
        assert IndexFile(file, OFFSET_INDEX).last_at_or_below(10 * (slot + 1)) == slot
    assert len(file.pages) <= PAGES_PER_FILE


def test_search_in_a_page_that_is_held_reads_nothing_more(path: pathlib.Path, file: OpenFile,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(entries(3 * ENTRIES_PER_PAGE))
    index = IndexFile(file, OFFSET_INDEX)
    end = 3 * ENTRIES_PER_PAGE - 1
    assert index.last_at_or_below(10 * end) == end - 1
    reads: list[int] = []
    read = OpenFile.read

    def counting_read(self: OpenFile, size_bytes: int, position: int) -> bytes:
        reads.append(size_bytes)
        return read(self, size_bytes, position)

    monkeypatch.setattr(OpenFile, "read", counting_read)
    assert index.last_at_or_below(10 * end - 50) == end - 6
    assert reads == []
    assert index.last_at_or_below(10 * 600) == 599
    assert max(reads) == ENTRIES_PER_PAGE * 8 and len(reads) <= 5


def test_file_cut_during_the_search(path: pathlib.Path, file: OpenFile) -> None:
    path.write_bytes(entries(2000))
    index = IndexFile(file, OFFSET_INDEX)
    path.write_bytes(entries(100))
    assert index.last_at_or_below(10 * 1500) <= 1999
    with pytest.raises(SegmentsChangedError):
        index.entry(1500)


def test_zero_tail_of_a_preallocated_file_only_costs_time(path: pathlib.Path, file: OpenFile) -> None:
    """A Kafka that was killed leaves one; storage trims it before serving, and no search may go wrong on it."""
    path.write_bytes(entries(1000) + bytes(8 * 5000))
    index = IndexFile(file, OFFSET_INDEX)
    for key in (5, 10, 5000, 9999, 20000):
        slot = index.last_at_or_below(key)
        assert slot == -1 or index.entry(slot)[0] <= key


def test_layouts_match_the_format() -> None:
    assert [layout.entry.size for layout in (OFFSET_INDEX, TIME_INDEX, index_file.TRANSACTION_INDEX)] == [8, 12, 34]
