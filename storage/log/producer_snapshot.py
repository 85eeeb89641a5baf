"""`%020d.snapshot`: the producer state of a partition at an offset, Kafka's bytes.

Runs in: storage, helpers. `encode_snapshot` and `decode_snapshot` are pure; `ProducerSnapshots` is the list
of a partition's snapshot files, owned by its log.

    int16 version = 1, uint32 crc32c of all that follows, int32 count, then per producer 46 bytes:
    int64 producer id, int16 epoch, int32 last sequence, int64 last offset (-1 none), int32 last offset
    minus first offset of that batch, int64 timestamp, int32 coordinator epoch, int64 first offset of the
    open transaction (-1 none)

So only the last batch of a producer survives a restart from a snapshot. Written in place like Kafka's, with
no temporary name: a torn one fails its checksum, is deleted at load, and the next older one is taken.
"""
from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterable, Mapping
from typing import Final

from crc32c import crc32c

from storage.errors import CorruptLogError
from storage.fs import FileLayer
from storage.log.file_names import SNAPSHOT_SUFFIX, segment_file_name
from storage.log.producer_state import NO_OFFSET, ProducerBatch, ProducerStateEntry
from storage.record.batch import SEQUENCE_MAX

SNAPSHOT_VERSION: Final = 1
# A partition with more producers than a GB of snapshot holds (23 million) has other problems.
SNAPSHOT_SIZE_BYTES_MAX: Final = 1 << 30
_PREFIX: Final = struct.Struct(">hI")
_COUNT: Final = struct.Struct(">i")
_ENTRY: Final = struct.Struct(">qhiqiqiq")
assert _ENTRY.size == 46


def encode_snapshot(producers: Mapping[int, ProducerStateEntry]) -> bytes:
    body = bytearray(_COUNT.pack(len(producers)))
    for producer_id, entry in producers.items():
        body += _ENTRY.pack(producer_id, entry.producer_epoch, entry.last_sequence, entry.last_data_offset,
                            entry.last_offset_delta, entry.last_timestamp, entry.coordinator_epoch,
                            entry.txn_first_offset)
    return _PREFIX.pack(SNAPSHOT_VERSION, crc32c(body)) + bytes(body)


def decode_snapshot(path: str, data: bytes) -> dict[int, ProducerStateEntry]:
    """Raises CorruptLogError for anything that Kafka would not read."""
    if len(data) < _PREFIX.size + _COUNT.size:
        raise CorruptLogError(path, 0, f"only {len(data)} bytes of a producer snapshot")
    version, crc = _PREFIX.unpack_from(data)
    if version != SNAPSHOT_VERSION:
        raise CorruptLogError(path, 0, f"producer snapshot version {version}, not {SNAPSHOT_VERSION}")
    if crc32c(memoryview(data)[_PREFIX.size:]) != crc:
        raise CorruptLogError(path, 2, "checksum of the producer snapshot does not match")
    (count,) = _COUNT.unpack_from(data, _PREFIX.size)
    start = _PREFIX.size + _COUNT.size
    if count < 0 or start + count * _ENTRY.size > len(data):
        raise CorruptLogError(path, _PREFIX.size, f"{count} producers announced in {len(data)} bytes")
    entries = _ENTRY.iter_unpack(memoryview(data)[start:start + count * _ENTRY.size])
    return {fields[0]: _decode_entry(*fields[1:]) for fields in entries}


def _decode_entry(producer_epoch: int, last_sequence: int, last_offset: int, offset_delta: int,
                  timestamp: int, coordinator_epoch: int, txn_first_offset: int) -> ProducerStateEntry:
    batches: tuple[ProducerBatch, ...] = ()
    if last_offset >= 0:
        first_sequence = last_sequence - offset_delta
        if first_sequence < 0:  # sequences wrap from 2147483647 to 0
            first_sequence += SEQUENCE_MAX + 1
        batches = (ProducerBatch(first_sequence, last_sequence, last_offset - offset_delta, last_offset,
                                 timestamp),)
    return ProducerStateEntry(producer_epoch, coordinator_epoch, timestamp, max(txn_first_offset, NO_OFFSET),
                              batches)


class ProducerSnapshots:
    """The snapshot files of one partition. Attributes: directory (changes when the partition is renamed),
    offsets (ascending; owned by the writer thread)."""

    __slots__ = ("directory", "offsets", "_files")

    def __init__(self, directory: str, offsets: Iterable[int], files: FileLayer) -> None:
        self.directory = directory
        self.offsets = sorted(offsets)
        self._files = files

    def path(self, offset: int) -> str:
        return f"{self.directory}/{segment_file_name(offset, SNAPSHOT_SUFFIX)}"

    def write(self, offset: int, data: bytes, *, sync: bool) -> None:
        """On OSError no file of that name is left."""
        path = self.path(offset)
        try:
            fd = self._files.open_write(path, truncate=True)
            try:
                self._files.pwrite_all(fd, data, 0)
                if sync:
                    self._files.fsync(fd)
            finally:
                self._files.close(fd)
        except OSError:
            with contextlib.suppress(OSError):  # the first error is the one that says what is wrong
                self._files.unlink(path)
            self.forget(offset)
            raise
        self.remember(offset)

    def read(self, offset: int) -> dict[int, ProducerStateEntry]:
        path = self.path(offset)
        return decode_snapshot(path, self._files.read_file(path, SNAPSHOT_SIZE_BYTES_MAX))

    def remember(self, offset: int) -> None:
        if offset not in self.offsets:
            self.offsets = sorted([*self.offsets, offset])

    def forget(self, offset: int) -> None:
        if offset in self.offsets:
            self.offsets.remove(offset)

    def remove(self, offset: int) -> None:
        self._files.unlink(self.path(offset))
        self.forget(offset)

    def remove_above(self, offset: int) -> None:
        for snapshot in [each for each in self.offsets if each > offset]:
            self.remove(snapshot)

    def remove_stray(self, segment_base_offsets: Iterable[int]) -> None:
        """Keep one per segment base, and the newest other one if it lies above every segment base."""
        bases = set(segment_base_offsets)
        stray = [offset for offset in self.offsets if offset not in bases]
        keep = stray[-1] if stray and (not bases or stray[-1] >= max(bases)) else None
        for offset in stray:
            if offset != keep:
                self.remove(offset)
