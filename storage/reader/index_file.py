"""Binary search in an index file by pread: offset, time and transaction index alike.

Runs in: front end, storage. State: up to PAGES_PER_FILE pages kept beside the open file.

Storage never preallocates index files, so the length says how many entries there are; bytes beyond the last
whole entry are an append in progress and are not looked at. Entries are only ever added behind the others
while the segment-list version stands, so a whole page once read stays true, and a partial one stays true as
far as it goes. A search over n pages costs log2(n) preads of one entry and one of a page; a search near the
end (nearly all are) or in a page already held costs one or none.
"""
from __future__ import annotations

import struct
from bisect import bisect_right
from typing import Final, NamedTuple

from storage.reader.errors import SegmentsChangedError
from storage.reader.file_pool import OpenFile

ENTRIES_PER_PAGE: Final = 512
# The last page and a few that older readers are in: 16 KB a file at most for the offset index.
PAGES_PER_FILE: Final = 4


class IndexLayout(NamedTuple):
    """entry: the struct of one entry; key_index: which of its fields is sorted and searched."""

    entry: struct.Struct
    key_index: int


# relative offset, position; the same entries searched by position
OFFSET_INDEX: Final = IndexLayout(struct.Struct(">ii"), 0)
OFFSET_INDEX_BY_POSITION: Final = IndexLayout(struct.Struct(">ii"), 1)
# timestamp, relative offset
TIME_INDEX: Final = IndexLayout(struct.Struct(">qi"), 0)
# version, producer id, first offset, last offset, last stable offset
TRANSACTION_INDEX: Final = IndexLayout(struct.Struct(">hqqqq"), 3)

assert TIME_INDEX.entry.size == 12 and TRANSACTION_INDEX.entry.size == 34

Entry = tuple[int, ...]


class IndexFile:
    """Searches in one pinned file; cheap to make, lives as long as the call."""

    __slots__ = ("_file", "_layout", "entry_count")

    def __init__(self, file: OpenFile, layout: IndexLayout) -> None:
        self._file = file
        self._layout = layout
        self.entry_count = file.size_bytes() // layout.entry.size

    def entry(self, slot: int) -> Entry:
        """SegmentsChangedError if the file has become shorter since it was opened for this search."""
        entry = self._layout.entry
        page = self._page(slot // ENTRIES_PER_PAGE)
        start = slot % ENTRIES_PER_PAGE * entry.size
        if start + entry.size > len(page):
            raise SegmentsChangedError(f"{self._file.path} lost entries while it was searched")
        return entry.unpack_from(page, start)

    def last_entry(self) -> Entry | None:
        return self.entry(self.entry_count - 1) if self.entry_count else None

    def last_at_or_below(self, key: int) -> int:
        """Slot of the last entry whose key is not above `key`; -1 if every key is."""
        if not self.entry_count:
            return -1
        page_index = self._page_of(key)
        unpack, size, key_index = self._layout.entry.unpack_from, self._layout.entry.size, self._layout.key_index
        page = self._page(page_index)
        slot_in_page = bisect_right(range(len(page) // size), key,
                                    key=lambda slot: unpack(page, slot * size)[key_index]) - 1
        return page_index * ENTRIES_PER_PAGE + slot_in_page

    def first_at_or_above(self, key: int) -> int:
        """Slot of the first entry whose key is not below `key`; entry_count if every key is."""
        return self.last_at_or_below(key - 1) + 1

    def _page_of(self, key: int) -> int:
        """The last page whose first key is not above `key` (0 if none): held ones and the last page first."""
        last = (self.entry_count - 1) // ENTRIES_PER_PAGE
        if last == 0 or self._first_key(last) <= key:
            return last
        for index in self._file.pages:
            if index < last and self._first_key(index) <= key < self._first_key(index + 1):
                return index
        low, high = 0, last
        while high - low > 1:
            middle = (low + high) // 2
            if self._first_key(middle) <= key:
                low = middle
            else:
                high = middle
        return low

    def _first_key(self, page_index: int) -> int:
        entry = self._layout.entry
        held = self._file.pages.get(page_index)
        if held is None:
            held = self._file.read(entry.size, page_index * ENTRIES_PER_PAGE * entry.size)
            if len(held) < entry.size:
                return (1 << 63) - 1  # cut off meanwhile: nothing is there to be found
        return int(entry.unpack_from(held)[self._layout.key_index])

    def _page(self, page_index: int) -> bytes:
        """The page as far as entry_count goes, at least: from those held, or read and held."""
        entry = self._layout.entry
        wanted = min(ENTRIES_PER_PAGE, self.entry_count - page_index * ENTRIES_PER_PAGE) * entry.size
        pages = self._file.pages
        data = pages.pop(page_index, b"")
        if len(data) < wanted:
            data = self._file.read(wanted, page_index * ENTRIES_PER_PAGE * entry.size)
            data = data[:len(data) - len(data) % entry.size]
        pages[page_index] = data
        while len(pages) > PAGES_PER_FILE:
            del pages[next(iter(pages))]
        return data
