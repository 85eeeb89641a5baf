"""Writes partition directories as storage leaves them: logs with their index files, nothing preallocated."""
from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from typing import NamedTuple

from storage.helpers.segment_scan import scan_segment
from storage.record.batch import iterate_headers
from storage.record.records import Record, build_batch

TIME = 1_700_000_000_000


class Batch(NamedTuple):
    """What a test knows of a batch it wrote."""

    segment: int
    position: int
    base_offset: int
    last_offset: int
    max_timestamp: int


class PartitionFiles:
    """batches: all of them, in order. The end is a batch boundary in the last segment."""

    def __init__(self, path: str, interval: int = 300) -> None:
        self.path = path
        self.interval = interval
        self.batches: list[Batch] = []
        self.segments: list[int] = []
        self.end_offset = 0
        self.end_position = 0
        os.makedirs(path, exist_ok=True)

    @property
    def end(self) -> tuple[int, int, int]:
        """As PartitionReader.locate takes it."""
        return self.end_offset, self.segments[-1], self.end_position

    def name(self, base_offset: int, suffix: str) -> str:
        return os.path.join(self.path, f"{base_offset:020d}{suffix}")

    def add_segment(self, base_offset: int, record_counts: Sequence[int], *, value_size_bytes: int = 30,
                    offset_gap: int = 0, times: Sequence[int] | None = None) -> None:
        """A segment of batches with these record counts; offset_gap: offsets missing before each batch."""
        data = bytearray()
        offset = base_offset
        for index, count in enumerate(record_counts):
            offset += offset_gap
            time = TIME + (times[index] if times is not None else offset)
            data += build_batch([Record(offset + i, time, None, bytes([index % 256]) * value_size_bytes)
                                 for i in range(count)], leader_epoch=1)
            offset += count
        self.write_segment(base_offset, bytes(data))
        self.end_offset = max(offset, base_offset)

    def write_segment(self, base_offset: int, data: bytes) -> None:
        """Under names that may exist already: then in place of what was there, as compaction does it."""
        log = self.name(base_offset, ".log")
        _replace(log, data)
        scan = scan_segment(log, 0, base_offset, self.interval)
        _replace(self.name(base_offset, ".index"), scan.offset_index)
        _replace(self.name(base_offset, ".timeindex"), scan.time_index)
        self.batches = [batch for batch in self.batches if batch.segment != base_offset]
        self.batches += [Batch(base_offset, position, header.base_offset, header.last_offset, header.max_timestamp)
                         for position, header in iterate_headers(data)]
        self.batches.sort(key=lambda batch: batch[:2])
        self.segments = sorted({*self.segments, base_offset})
        self.end_position = len(data)

    def add_aborted(self, base_offset: int, entries: Sequence[tuple[int, int, int, int]]) -> None:
        """(producer id, first offset, last offset, last stable offset) of each aborted transaction."""
        with open(self.name(base_offset, ".txnindex"), "ab") as file:
            for entry in entries:
                file.write(struct.pack(">hqqqq", 0, *entry))

    def expected_location(self, offset: int) -> tuple[int, int]:
        """By walking everything: the first batch whose last offset is at least `offset`."""
        for batch in self.batches:
            if batch.last_offset >= offset:
                return batch.segment, batch.position
        return self.segments[-1], self.end_position


def _replace(path: str, data: bytes) -> None:
    with open(path + ".swap", "wb") as file:
        file.write(data)
    os.rename(path + ".swap", path)
