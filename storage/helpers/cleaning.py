"""One log's compaction as the helper does it: build the offset map, then write one segment per group.

Runs in: the cleaner's helper process, forked for one cleaning (`cleaner_main`). It only reads the partition's
directory; what it writes goes to descriptors of `.cleaned` files that storage has made, so a helper that lives
longer than it should can harm nothing.

Bytes are read in chunks; every batch of the cleaned range is looked at twice, once for the map and once for
the copy, as in Kafka. Between chunks the throttle waits and `should_stop` is asked.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from storage.cleaner.batch_filter import UNPACKED_SIZE_BYTES_MAX, BatchFilter, FilterStats, LastRecord
from storage.cleaner.index_entries import IndexEntries
from storage.cleaner.offset_map import OffsetMap
from storage.cleaner.record_fields import split_records
from storage.cleaner.throttle import IoThrottle
from storage.cleaner.transactions import CleanedTransactions
from storage.errors import CorruptLogError
from storage.fs import FileLayer
from storage.log.append_file import AppendFile
from storage.log.file_names import LOG_SUFFIX, TXN_INDEX_SUFFIX, segment_file_name
from storage.log.producer_state import CompletedTxn
from storage.log.transaction_index import AbortedTxn, TransactionIndex, encode_aborted_txn
from storage.record.batch import (
    BATCH_OVERHEAD,
    MAGIC_POSITION,
    MAGIC_V2,
    BatchHeader,
    read_extent,
    read_header,
)
from storage.record.compression import decompress
from storage.record.control import read_control_batch
from storage.record.errors import CorruptBatchError, RecordError
from storage.record.legacy import iterate_legacy_records

# As much as is gathered before it is written, and the least that is read at a time.
IO_SIZE_BYTES_MIN: Final = 256 << 10
# The longest sleep of the throttle before `should_stop` is asked again.
SLEEP_S_MAX: Final = 0.2


class CleaningStoppedError(Exception):
    """Storage does not want this cleaning any more."""


class SourceSegment(NamedTuple):
    """A segment to read: as many bytes as storage says, not what the file has. retain_legacy_deletes: it was
    modified too recently for its tombstones of formats v0 and v1 to go."""

    base_offset: int
    size_bytes: int
    retain_legacy_deletes: bool


class MapRequest(NamedTuple):
    """The dirty part and how it is cleaned. segments: those that hold [first_dirty, first_uncleanable).
    txn_bases: segments whose transaction index is read. dirty_positions: where to begin in each segment."""

    directory: str
    segments: list[tuple[int, int]]
    txn_bases: list[int]
    first_dirty_offset: int
    first_dirty_position: int
    first_uncleanable_offset: int
    load_factor: float
    io_size_bytes: int
    bytes_per_second: float
    now_ms: int
    delete_retention_ms: int
    index_interval_bytes: int
    index_size_bytes_max: int


class GroupRequest(NamedTuple):
    """producers: (id, last data offset or -1, epoch) of those that may end in this group."""

    base_offset: int
    segments: list[tuple[int, int, bool]]
    producers: list[tuple[int, int, int]]


class MapResult(NamedTuple):
    """end_offset: the part of the log below it is cleaned now; less than asked if the map became full."""

    end_offset: int
    key_count: int
    utilization: float
    bytes_read: int


class GroupResult(NamedTuple):
    log_size_bytes: int
    max_timestamp: int
    has_aborted: bool
    bytes_read: int
    records_read: int
    records_kept: int
    invalid: int


class Outputs(NamedTuple):
    """Descriptors of the four `.cleaned` files, empty."""

    log: int
    offset_index: int
    time_index: int
    txn_index: int


class Batch(NamedTuple):
    """view: the chunk it lies in, valid until the next batch is asked for."""

    view: memoryview
    position: int
    size_bytes: int
    magic: int
    file_position: int


@dataclass(slots=True)
class LogCleaning:
    """One cleaning of one log; see the module. Everything raises OSError, CorruptLogError (the log is
    uncleanable, with file and position) and CleaningStoppedError."""

    request: MapRequest
    offsets: OffsetMap
    files: FileLayer
    should_stop: Callable[[], bool]
    monotonic_s: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _aborted: list[AbortedTxn] = field(init=False)
    _filter: BatchFilter = field(init=False)
    _throttle: IoThrottle = field(init=False)

    def __post_init__(self) -> None:
        self._throttle = IoThrottle(self.request.bytes_per_second)
        self._aborted = self._read_aborted()
        self._filter = BatchFilter(self.offsets, CleanedTransactions(self._aborted), self.request.now_ms,
                                   self.request.delete_retention_ms, {}, False, FilterStats())

    # -- the map

    def build_map(self) -> MapResult:
        """Latest offsets of the dirty part, as far as the map goes."""
        request, bytes_read = self.request, 0
        transactions = CleanedTransactions(txn for txn in self._aborted
                                           if txn.last_offset >= request.first_dirty_offset)
        following = [base for base, _ in request.segments[1:]] + [request.first_uncleanable_offset]
        position = request.first_dirty_position
        for (base_offset, size_bytes), next_base in zip(request.segments, following, strict=True):
            bytes_read += size_bytes - position
            if not self._map_segment(base_offset, position, size_bytes, transactions):
                break
            self.offsets.advance_latest(next_base - 1)
            position = 0
        return MapResult(self.offsets.latest_offset + 1, self.offsets.size, self.offsets.utilization, bytes_read)

    def _map_segment(self, base_offset: int, position: int, size_bytes: int,
                     transactions: CleanedTransactions) -> bool:
        """False: the map is full."""
        path = self._path(base_offset, LOG_SUFFIX)
        for batch in self._batches(path, position, size_bytes):
            try:
                taken, last_offset = self._map_batch(batch, transactions)
            except RecordError as error:
                raise CorruptLogError(path, batch.file_position, error.what) from error
            if not taken:
                return False
            if last_offset >= self.request.first_dirty_offset:
                self.offsets.advance_latest(last_offset)
        return True

    def _map_batch(self, batch: Batch, transactions: CleanedTransactions) -> tuple[bool, int]:
        """(whether all of it fits, its last offset)."""
        view = batch.view[batch.position:batch.position + batch.size_bytes]
        if batch.magic < MAGIC_V2:
            return self._map_legacy(view)
        header = read_header(view)
        if header.is_control:
            transactions.on_control_batch(header, read_control_batch(view))
        elif not transactions.on_data_batch(header) and header.record_count:
            return self._map_records(view, header), header.last_offset
        return True, header.last_offset

    def _map_records(self, view: memoryview, header: BatchHeader) -> bool:
        body = bytes(decompress(header.codec, view[BATCH_OVERHEAD:], UNPACKED_SIZE_BYTES_MAX))
        fields = split_records(body, header.record_count)
        base, first = header.base_offset, self.request.first_dirty_offset
        offsets = [base + delta for delta in fields.offset_deltas]
        keys = fields.keys
        if base < first:
            keys = [key if offset >= first else None for key, offset in zip(keys, offsets, strict=True)]
        return self.offsets.put_all(keys, offsets) == len(keys)

    def _map_legacy(self, view: memoryview) -> tuple[bool, int]:
        records = list(iterate_legacy_records(view, output_size_bytes_max=UNPACKED_SIZE_BYTES_MAX))
        first = self.request.first_dirty_offset
        keys = [record.key if record.offset >= first else None for record in records]
        taken = self.offsets.put_all(keys, [record.offset for record in records])
        return taken == len(keys), records[-1].offset

    def _read_aborted(self) -> list[AbortedTxn]:
        aborted: list[AbortedTxn] = []
        for base in self.request.txn_bases:
            file = AppendFile.at(self._path(base, TXN_INDEX_SUFFIX), self.files)
            if file.exists:
                file.fd = self.files.open_read(file.path)
                try:
                    aborted += TransactionIndex(file, base).entries()
                finally:
                    file.close()
        return aborted

    # -- the copy

    def clean_group(self, group: GroupRequest, outputs: Outputs) -> GroupResult:
        """What stays of the group's segments, in one; all of it is on the disk afterwards."""
        request, stats = self.request, FilterStats()
        self._filter.stats = stats
        self._filter.producers = {producer_id: LastRecord(last_data_offset, epoch)
                                  for producer_id, last_data_offset, epoch in group.producers}
        entries = IndexEntries(group.base_offset, request.index_interval_bytes, request.index_size_bytes_max)
        writer = _Writer(self.files, outputs.log, request.io_size_bytes, entries, self._wait)
        for segment in map(SourceSegment._make, group.segments):
            self._filter.retain_legacy_deletes = segment.retain_legacy_deletes
            self._copy_segment(segment, writer)
        writer.flush()
        entries.finish()
        aborted = self._filter.transactions.take_kept_aborts()
        self._finish(outputs, entries, aborted)
        return GroupResult(writer.position, entries.max_timestamp, bool(aborted),
                           sum(segment[1] for segment in group.segments), stats.records_read,
                           stats.records_kept, stats.invalid)

    def _copy_segment(self, segment: SourceSegment, writer: _Writer) -> None:
        path = self._path(segment.base_offset, LOG_SUFFIX)
        apply = self._filter.apply
        for batch in self._batches(path, 0, segment.size_bytes, writer.flush):
            try:
                kept = apply(batch.view, batch.position, batch.size_bytes, batch.magic)
                if kept is not None:
                    writer.add(kept.data, kept.last_offset, kept.max_timestamp)
            except RecordError as error:
                raise CorruptLogError(path, batch.file_position, error.what) from error

    def _finish(self, outputs: Outputs, entries: IndexEntries, aborted: list[AbortedTxn]) -> None:
        """Indexes and the sync of all four files: nothing is swapped in that is not on the disk."""
        txn_index = b"".join(encode_aborted_txn(CompletedTxn(
            txn.producer_id, txn.first_offset, txn.last_offset, True, txn.last_stable_offset)) for txn in aborted)
        for fd, data in ((outputs.offset_index, entries.offset_index), (outputs.time_index, entries.time_index),
                         (outputs.txn_index, txn_index)):
            if data:
                self.files.pwrite_all(fd, data, 0)
        for fd in outputs:
            self.files.fdatasync(fd)

    # -- reading

    def _batches(self, path: str, position: int, end: int,
                 before_refill: Callable[[], None] = lambda: None) -> Iterator[Batch]:
        """Every batch of [position, end). The buffer is used again: before_refill is called when nothing may
        point into it any more. CorruptLogError for bytes that are no batches, or that are not there."""
        buffer = bytearray(min(self.request.io_size_bytes, max(end - position, 1)))
        fd = self.files.open_read(path)
        try:
            while position < end:
                self._check_wanted()
                wanted = min(len(buffer), end - position)
                with memoryview(buffer) as whole, whole[:wanted] as view:
                    if self.files.read_into(fd, view, position) < wanted:
                        raise CorruptLogError(path, position, f"the file ends before byte {end}")
                    self._wait(wanted)
                    used, needed = 0, 0
                    while used < wanted:
                        size_bytes, magic = _next_batch(view, used, path, position, end)
                        if used + size_bytes > wanted:
                            needed = size_bytes
                            break
                        yield Batch(view, used, size_bytes, magic, position + used)
                        used += size_bytes
                    before_refill()
                if not used:
                    buffer = bytearray(needed)
                position += used
        finally:
            self.files.close(fd)

    def _path(self, base_offset: int, suffix: str) -> str:
        return f"{self.request.directory}/{segment_file_name(base_offset, suffix)}"

    def _check_wanted(self) -> None:
        if self.should_stop():
            raise CleaningStoppedError

    def _wait(self, size_bytes: int) -> None:
        """The throttle, in sleeps that are short enough to be stopped."""
        left_s = self._throttle.moved(size_bytes, self.monotonic_s())
        while left_s > 0:
            self._check_wanted()
            self.sleep(min(left_s, SLEEP_S_MAX))
            left_s -= SLEEP_S_MAX


def _next_batch(view: memoryview, used: int, path: str, position: int, end: int) -> tuple[int, int]:
    """(size, magic) of the batch at `used`; more than is left in the view if that holds only its beginning."""
    try:
        extent = read_extent(view, used, len(view))
    except CorruptBatchError as error:
        raise CorruptLogError(path, position + used, error.what) from error
    if extent is not None:
        return extent.size_bytes, extent.magic
    left = len(view) - used
    if left > MAGIC_POSITION:
        size_bytes = int.from_bytes(view[used + 8:used + 12], "big", signed=True) + 12
    else:
        size_bytes = left + 1
    if position + used + size_bytes > end:
        raise CorruptLogError(path, position + used, f"a batch of {size_bytes} bytes, "
                              f"{end - position - used} left in the segment")
    return max(size_bytes, left + 1), MAGIC_V2


class _Writer:
    """Gathers what stays and writes it in large pieces. position: bytes written or gathered so far."""

    def __init__(self, files: FileLayer, fd: int, io_size_bytes: int, entries: IndexEntries,
                 wait: Callable[[int], None]) -> None:
        self.position = 0
        self._files = files
        self._fd = fd
        self._io_size_bytes = io_size_bytes
        self._entries = entries
        self._wait = wait
        self._pieces: list[memoryview | bytes] = []
        self._pieces_size_bytes = 0

    def add(self, data: memoryview | bytes, last_offset: int, max_timestamp: int) -> None:
        size_bytes = len(data)
        self._entries.add(self.position, size_bytes, last_offset, max_timestamp)
        self._pieces.append(data)
        self.position += size_bytes
        self._pieces_size_bytes += size_bytes
        if self._pieces_size_bytes >= self._io_size_bytes:
            self.flush()

    def flush(self) -> None:
        if not self._pieces:
            return
        pieces, self._pieces = self._pieces, []
        size_bytes, self._pieces_size_bytes = self._pieces_size_bytes, 0
        self._files.pwritev_all(self._fd, pieces, self.position - size_bytes)
        for piece in pieces:
            if isinstance(piece, memoryview):
                piece.release()
        self._wait(size_bytes)


def sources_of(segments: Sequence[Any]) -> list[tuple[int, int]]:
    """(base offset, size) pairs out of a message."""
    return [(int(base), int(size)) for base, size in segments]
