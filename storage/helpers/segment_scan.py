"""Recovery scan of one segment: which bytes are whole batches, and everything that follows from them.

Runs in: helper processes, one segment a call (in storage itself only for tests and tiny files: the walk keeps
the interpreter lock). No state survives a call; the file is only read.

The rules are those of Kafka's LogSegment.recover: batches are taken while their CRC and offsets are right; an
offset-index entry is due at a batch that begins more than index.interval.bytes behind the last entry; a
time-index entry goes with it when the largest timestamp grew, and one more ends the segment. Beyond Kafka, a
batch whose offsets do not follow those before it ends the scan instead of breaking the index.

Reading is pread into one buffer, not mmap: an I/O error must come back as an error, not as SIGBUS. A batch
larger than the buffer is checksummed piece by piece.
"""
from __future__ import annotations

import enum
import struct
from typing import Final, NamedTuple

from crc32c import crc32c

from storage.fs import OS_FILES, FileLayer
from storage.helpers.producer_updates import ProducerUpdateCollector
from storage.record.batch import (
    ATTRIBUTES_POSITION,
    BATCH_OVERHEAD,
    CONTROL_BIT,
    HEADER,
    LOG_OVERHEAD,
    MAGIC_V2,
    MIN_SIZE_BYTES,
    NO_LEADER_EPOCH,
    NO_TIMESTAMP,
    BatchHeader,
)
from storage.record.control import read_control_batch
from storage.record.errors import CorruptBatchError, RecordError
from storage.record.legacy import legacy_crc_is_valid, read_message

# Small enough for the L2 cache with its copy, large enough that re-reading the batch cut by its end is rare.
BUFFER_SIZE_BYTES: Final = 1 << 20
# Without checksums only headers matter: jump over what a small buffer does not hold.
HEADER_BUFFER_SIZE_BYTES: Final = 64 * 1024
# Positions and relative offsets are int32 in the indexes; no segment is longer.
POSITION_MAX: Final = (1 << 31) - 1
RELATIVE_OFFSET_MAX: Final = (1 << 31) - 1

OFFSET_INDEX_ENTRY: Final = struct.Struct(">ii")
TIME_INDEX_ENTRY: Final = struct.Struct(">qi")
ATTRIBUTES_FIELD: Final = BatchHeader._fields.index("attributes")


class StopReason(enum.IntEnum):
    """Why a scan ended. Only END_OF_FILE leaves nothing to cut."""

    END_OF_FILE = 0
    CUT_BATCH = 1
    """The last batch is longer than the file: a torn write."""
    CORRUPT_BATCH = 2
    """Length, magic, checksum, order of offsets, or the inside of a control batch."""
    OFFSET_OVERFLOW = 3
    """An offset too far from the segment's base for the indexes; Kafka splits such a segment."""


class ScanStart(NamedTuple):
    """What is known of the bytes before the start position, for a scan that does not begin at 0."""

    next_offset: int | None = None
    last_index_position: int = 0
    largest_timestamp: int = NO_TIMESTAMP
    offset_of_largest_timestamp: int = -1
    latest_leader_epoch: int = NO_LEADER_EPOCH


class SegmentScan(NamedTuple):
    """What one segment holds from the start position on.

    offset_index, time_index: the bytes to put into (or behind) the index files. producer_updates: see
    `producer_updates.unpack_updates`. leader_epochs: [epoch, first offset] of each higher epoch.
    first_timestamp: max timestamp of the first batch seen, what rolling by time counts from.
    largest_timestamp -1: none. stop_what: a sentence for the log, empty at END_OF_FILE.
    """

    valid_end_position: int
    file_size_bytes: int
    next_offset: int
    batch_count: int
    first_timestamp: int
    largest_timestamp: int
    offset_of_largest_timestamp: int
    last_index_position: int
    leader_epochs: list[list[int]]
    offset_index: bytes
    time_index: bytes
    producer_updates: bytes
    stop_reason: int
    stop_what: str

    @property
    def invalid_size_bytes(self) -> int:
        return self.file_size_bytes - self.valid_end_position


FROM_THE_BEGINNING: Final = ScanStart()


def scan_segment(path: str, start_position: int, base_offset: int, index_interval_bytes: int,
                 *, start: ScanStart = FROM_THE_BEGINNING, verify_crc: bool = True,
                 files: FileLayer = OS_FILES) -> SegmentScan:
    """Scan the log file at `path`; raises OSError only. verify_crc=False trusts bytes and walks headers."""
    fd = files.open_read(path)
    try:
        scan = _Scan(files, fd, start_position, base_offset, index_interval_bytes, start)
        scan.run(verify_crc)
        return scan.result()
    finally:
        files.close(fd)


class _Stop(Exception):
    """Ends the walk; never leaves this module."""

    def __init__(self, reason: StopReason, what: str) -> None:
        super().__init__(what)
        self.reason = reason
        self.what = what


class _Scan:
    """One pass. All attributes describe the batches before `position`."""

    def __init__(self, files: FileLayer, fd: int, position: int, base_offset: int,
                 index_interval_bytes: int, start: ScanStart) -> None:
        self.files = files
        self.fd = fd
        self.base_offset = base_offset
        self.index_interval_bytes = index_interval_bytes
        self.position = position
        self.next_offset = base_offset if start.next_offset is None else start.next_offset
        self.last_index_position = start.last_index_position
        self.largest_timestamp = start.largest_timestamp
        self.offset_of_largest = start.offset_of_largest_timestamp
        self.indexed_timestamp = start.largest_timestamp
        self.latest_epoch = start.latest_leader_epoch
        self.first_timestamp = NO_TIMESTAMP
        self.batch_count = 0
        self.leader_epochs: list[list[int]] = []
        self.offset_index = bytearray()
        self.time_index = bytearray()
        self.producers = ProducerUpdateCollector()
        self.file_size = 0
        self.stop = _Stop(StopReason.END_OF_FILE, "")

    def run(self, verify_crc: bool) -> None:
        self.file_size = self.files.size_bytes(self.fd)
        limit = BUFFER_SIZE_BYTES if verify_crc else HEADER_BUFFER_SIZE_BYTES
        buffer = memoryview(bytearray(min(limit, max(self.file_size, 1))))  # thousands of files are tiny
        try:
            while self.position < self.file_size:
                if self.file_size > POSITION_MAX and self.position > POSITION_MAX - len(buffer):
                    raise _Stop(StopReason.CORRUPT_BATCH, "segment longer than 2 GiB")
                count = self.files.read_into(self.fd, buffer, self.position)
                start = self.position
                self._walk(buffer[:count], verify_crc)
                if self.position == start:
                    self._walk_one(buffer[:count], verify_crc)
        except _Stop as stop:
            self.stop = stop
        self._append_time_index_entry()

    def result(self) -> SegmentScan:
        return SegmentScan(
            self.position, self.file_size, self.next_offset, self.batch_count, self.first_timestamp,
            self.largest_timestamp, self.offset_of_largest, self.last_index_position, self.leader_epochs,
            bytes(self.offset_index), bytes(self.time_index), self.producers.packed(),
            int(self.stop.reason), self.stop.what)

    def _walk(self, view: memoryview, verify_crc: bool) -> None:
        """Every v2 batch that lies wholly in `view`, which begins at self.position. The hot loop."""
        unpack = HEADER.unpack_from
        cursor, end = 0, len(view)
        start = self.position
        next_offset = self.next_offset
        while end - cursor >= BATCH_OVERHEAD:
            fields = unpack(view, cursor)
            base, length, epoch, magic, crc, attributes, delta, _, max_timestamp, producer_id = fields[:10]
            following = cursor + LOG_OVERHEAD + length
            if magic != MAGIC_V2 or following > end or following - cursor < BATCH_OVERHEAD:
                break
            if verify_crc and crc32c(view[cursor + ATTRIBUTES_POSITION:following]) != crc:
                raise _Stop(StopReason.CORRUPT_BATCH, f"checksum of the batch at offset {base} is wrong")
            last = base + delta
            if base < next_offset or last < base or last - self.base_offset > RELATIVE_OFFSET_MAX:
                raise self._wrong_offsets(base, last)
            if producer_id >= 0:
                self._note_producer(fields, view[cursor:following])
            if max_timestamp > self.largest_timestamp:
                self.largest_timestamp = max_timestamp
                self.offset_of_largest = last
            if start + cursor - self.last_index_position > self.index_interval_bytes:
                self._append_index_entries(last, start + cursor)
            if epoch > self.latest_epoch:
                self._note_epoch(epoch, base)
            if not self.batch_count:
                self.first_timestamp = max_timestamp
            self.batch_count += 1
            self.next_offset = next_offset = last + 1
            cursor = following
            self.position = start + cursor

    def _walk_one(self, view: memoryview, verify_crc: bool) -> None:
        """The entry at self.position, of which `view` holds only the beginning, or which is not v2."""
        size_bytes, magic = self._entry_at(view)
        if magic != MAGIC_V2:
            self._take_legacy(view, size_bytes, verify_crc)
            return
        header = BatchHeader._make(HEADER.unpack_from(view))
        if verify_crc and self._crc_of_large(view, size_bytes) != header.crc:
            raise _Stop(StopReason.CORRUPT_BATCH, f"checksum of the batch at offset {header.base_offset} "
                                                  "is wrong")
        self._take_large(header, size_bytes)

    def _entry_at(self, view: memoryview) -> tuple[int, int]:
        """(size, magic), the size within the file; else the reason to stop."""
        left = self.file_size - self.position
        if len(view) < MIN_SIZE_BYTES[0]:
            raise _Stop(StopReason.CUT_BATCH, f"{left} bytes left, less than a header")
        size_bytes = int.from_bytes(view[8:12], "big", signed=True) + LOG_OVERHEAD
        magic = view[16]
        if magic > MAGIC_V2 or size_bytes < MIN_SIZE_BYTES[magic]:
            what = "zeros" if not any(view[:BATCH_OVERHEAD]) else f"magic {magic}, size {size_bytes}"
            raise _Stop(StopReason.CORRUPT_BATCH, f"{what} where a batch should begin")
        if size_bytes > left:
            raise _Stop(StopReason.CUT_BATCH, f"batch of {size_bytes} bytes with {left} left in the file")
        return size_bytes, magic

    def _crc_of_large(self, view: memoryview, size_bytes: int) -> int:
        """Piece by piece through `view`, whose content is lost."""
        crc: int = crc32c(view[ATTRIBUTES_POSITION:])
        done = len(view)
        while done < size_bytes:
            piece = view[:min(len(view), size_bytes - done)]
            count = self.files.read_into(self.fd, piece, self.position + done)
            if count < len(piece):
                raise _Stop(StopReason.CUT_BATCH, "the file became shorter during the scan")
            crc = crc32c(piece, crc)
            done += count
        return crc

    def _take_large(self, header: BatchHeader, size_bytes: int) -> None:
        """As the hot loop does, for one checked batch that the buffer cannot hold."""
        base, last = header.base_offset, header.last_offset
        if base < self.next_offset or last < base or last - self.base_offset > RELATIVE_OFFSET_MAX:
            raise self._wrong_offsets(base, last)
        if header.has_producer_id:
            self._note_producer(header, memoryview(b""))
        if header.partition_leader_epoch > self.latest_epoch:
            self._note_epoch(header.partition_leader_epoch, base)
        self._take(last, header.max_timestamp, size_bytes)

    def _take_legacy(self, view: memoryview, size_bytes: int, verify_crc: bool) -> None:
        """One v0 or v1 message: no producer, no epoch, and of its offsets only the last is known."""
        if size_bytes > len(view):
            view = memoryview(bytearray(size_bytes))
            if self.files.read_into(self.fd, view, self.position) < size_bytes:
                raise _Stop(StopReason.CUT_BATCH, "the file became shorter during the scan")
        try:
            message = read_message(view, 0, size_bytes)
        except CorruptBatchError as error:
            raise _Stop(StopReason.CORRUPT_BATCH, error.what) from error
        if verify_crc and not legacy_crc_is_valid(view, 0, size_bytes):
            raise _Stop(StopReason.CORRUPT_BATCH, f"checksum of the message at {message.offset} is wrong")
        if message.offset < self.next_offset or message.offset - self.base_offset > RELATIVE_OFFSET_MAX:
            raise self._wrong_offsets(message.offset, message.offset)
        self._take(message.offset, message.timestamp, size_bytes)

    def _take(self, last_offset: int, max_timestamp: int, size_bytes: int) -> None:
        if max_timestamp > self.largest_timestamp:
            self.largest_timestamp = max_timestamp
            self.offset_of_largest = last_offset
        if self.position - self.last_index_position > self.index_interval_bytes:
            self._append_index_entries(last_offset, self.position)
        if not self.batch_count:
            self.first_timestamp = max_timestamp
        self.batch_count += 1
        self.next_offset = last_offset + 1
        self.position += size_bytes

    def _note_producer(self, fields: tuple[int, ...], batch: memoryview) -> None:
        """fields: the unpacked header. batch: its bytes, of a control batch; a large one cannot be one."""
        if not fields[ATTRIBUTES_FIELD] & CONTROL_BIT:
            self.producers.add_data(fields)
            return
        try:
            control = read_control_batch(batch)
        except RecordError as error:
            raise _Stop(StopReason.CORRUPT_BATCH,
                        f"control batch at offset {fields[0]}: {error.what}") from error
        if control is not None and control.ends_transaction:
            self.producers.add_marker(BatchHeader._make(fields), control)

    def _note_epoch(self, epoch: int, base: int) -> None:
        self.leader_epochs.append([epoch, base])
        self.latest_epoch = epoch

    def _append_index_entries(self, last_offset: int, position: int) -> None:
        self.offset_index += OFFSET_INDEX_ENTRY.pack(last_offset - self.base_offset, position)
        self.last_index_position = position
        self._append_time_index_entry()

    def _append_time_index_entry(self) -> None:
        if self.largest_timestamp > self.indexed_timestamp:
            relative_offset = self.offset_of_largest - self.base_offset
            self.time_index += TIME_INDEX_ENTRY.pack(self.largest_timestamp, relative_offset)
            self.indexed_timestamp = self.largest_timestamp

    def _wrong_offsets(self, base: int, last: int) -> _Stop:
        if last - self.base_offset > RELATIVE_OFFSET_MAX and base >= self.next_offset:
            return _Stop(StopReason.OFFSET_OVERFLOW,
                         f"offset {last} is too far from the segment's base {self.base_offset}")
        return _Stop(StopReason.CORRUPT_BATCH,
                     f"batch of offsets {base} to {last} where {self.next_offset} should follow")
