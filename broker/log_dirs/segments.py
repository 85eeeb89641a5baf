"""Readers of hosted partitions' segment files, for Fetch and offset look-ups.

What: one `PartitionReader` per partition that is being read, refreshed when storage says that the segment
list changed, and the conversion of a readable end (an offset) into a position. All share one bounded pool of
descriptors.
Why here: the front end finds positions itself, with no hop to storage; only headers and index bytes are read,
and those only if the page cache has them (else ColdReadError: a worker of the directory reads them first).
Runs in: front end. Owner: the front end's one instance; descriptors belong to the pool, pinned while sent.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import trio

from broker.log_dirs.page_cache import DirectoryWarmth
from broker.network.send_file import FileRange
from broker.replica.marks import LogPosition
from broker.replica.partition import Partition
from storage.ipc.partition_table import PartitionTable
from storage.reader.errors import ColdReadError, SegmentsChangedError
from storage.reader.file_pool import FilePool
from storage.reader.partition_reader import NO_VERSION, Location, PartitionReader
from storage.reader.segment_reader import TXNINDEX, AbortedTransaction

Found = TypeVar("Found")

PATIENCE_ATTEMPTS_MAX = 200
CHANGING_PAUSE_S = 0.005
"""Names change within milliseconds; a reader that meets the change looks again this much later."""


class Slice(NamedTuple):
    """What one read of a partition gives: a range to send, or None with a size of 0."""

    file_range: FileRange | None
    size_bytes: int


EMPTY = Slice(None, 0)


class SegmentReaders:
    """Readers by partition object: a reopened partition is another object and gets a reader of its own."""

    def __init__(self, warmth: DirectoryWarmth, table: PartitionTable) -> None:
        self._readers: dict[Partition, PartitionReader] = {}
        self._pool = FilePool()
        self._warmth = warmth
        self._table = table
        self._had_aborts: dict[Partition, tuple[int, bool]] = {}

    def reader(self, partition: Partition) -> PartitionReader:
        """The partition's reader, its segment list at the version that the last completion named."""
        reader = self._readers.get(partition)
        if reader is None:
            reader = self._readers[partition] = PartitionReader(
                partition.path, self._pool, page_cache=self._warmth.probe(partition.directory_index),
                read_version=lambda: self._live_version(partition),
            )  # fmt: skip
        if reader.version != partition.segment_list_version:
            reader.refresh(partition.segment_list_version)
        return reader

    def _live_version(self, partition: Partition) -> int:
        half = self._table.read_storage_half(partition.slot)
        if half is None or half.slot_generation != partition.slot_generation:
            return NO_VERSION
        return half.segment_list_version

    def forget(self, partition: Partition) -> None:
        """The partition is stopped, deleted or reopened."""
        self._had_aborts.pop(partition, None)
        reader = self._readers.pop(partition, None)
        if reader is not None:
            reader.close()

    def end_position(self, partition: Partition, offset: int) -> LogPosition:
        """Where the batch that begins at (or contains) `offset` starts; from a mark if there is one."""
        mark = partition.marks.exact(offset)
        if mark is not None:
            return mark
        log_end = partition.marks.log_end
        base, position = self.reader(partition).locate(
            offset, log_end.offset, log_end.segment_base, log_end.position
        )
        return LogPosition(offset, base, position)

    def slice(
        self, partition: Partition, fetch_offset: int, end_offset: int, max_bytes: int, min_one_batch: bool
    ) -> Slice:
        """The bytes from the batch that contains `fetch_offset`, within one segment, below `end_offset`.

        fetch_offset < end_offset. At most `max_bytes`, but a whole first batch if `min_one_batch`, and
        never a part of the first batch (KIP-74).
        Raises what the reader raises.
        """
        reader = self.reader(partition)
        end = self.end_position(partition, end_offset)
        base, position = self._start(reader, partition, fetch_offset, end)
        stop = end.position if base == end.segment_base else reader.segment_size(base)
        available = stop - position
        size = min(available, max_bytes)
        if size < available:
            header = reader.batch_header_at(base, position, stop)
            first_size = min(available, header.batch_length + LOG_OVERHEAD_BYTES)
            if size < first_size:
                size = first_size if min_one_batch else 0
        if size <= 0:
            return EMPTY
        directory = partition.directory_index
        descriptor = reader.descriptor(base)
        recent = base == end.segment_base and end.position - position <= self._warmth.recent_bytes
        cold = not recent and self._warmth.is_cold(directory, descriptor.fd, position, size)
        return Slice(FileRange(descriptor, position, size, cold, directory), size)

    def _start(
        self, reader: PartitionReader, partition: Partition, fetch_offset: int, end: LogPosition
    ) -> Location:
        """A mark is where a log end was; if a roll followed, that batch begins the next segment instead."""
        mark = partition.marks.exact(fetch_offset)
        if mark is not None and (
            mark.segment_base == end.segment_base or mark.position < reader.segment_size(mark.segment_base)
        ):
            return Location(mark.segment_base, mark.position)
        return reader.locate(fetch_offset, end.offset, end.segment_base, end.position)

    def aborted_transactions(
        self, partition: Partition, fetch_offset: int, end_offset: int
    ) -> list[AbortedTransaction]:
        """For read_committed. Most partitions never had a transaction: then no file is looked for.

        What was seen holds for a version of the segment list: within one, a transaction index appears only
        by an abort marker, and nothing appends markers yet.
        """
        known = self._had_aborts.get(partition)
        if known is None or known[0] != partition.segment_list_version:
            had = any(name.endswith(TXNINDEX) for name in os.listdir(partition.path))
            known = self._had_aborts[partition] = (partition.segment_list_version, had)
        if not known[1]:
            return []
        return self.reader(partition).aborted_transactions(fetch_offset, end_offset)

    async def patiently(self, directory_index: int, look_up: Callable[[], Found]) -> Found:
        """`look_up` with a worker's help for cold bytes, and again when names changed under it."""
        for _ in range(PATIENCE_ATTEMPTS_MAX):
            try:
                return look_up()
            except (ColdReadError, SegmentsChangedError) as obstacle:
                await self.overcome(directory_index, obstacle)
        return look_up()

    async def overcome(self, directory_index: int, obstacle: ColdReadError | SegmentsChangedError) -> None:
        """What has to happen before a look-up is worth another try."""
        if isinstance(obstacle, ColdReadError):
            try:
                await self._warmth.run_in_worker(directory_index, obstacle.fetch)
            finally:
                obstacle.release()
        else:
            await trio.sleep(CHANGING_PAUSE_S)


LOG_OVERHEAD_BYTES = 12
"""Base offset and length: what `batch_length` does not count."""
