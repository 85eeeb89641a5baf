"""What the files of a log directory say about its partitions, read without touching any of them.

For metadata that is lost and made anew from the directories: topic ids, and the leader epochs and producer
ids that new ones must lie above. Nothing is verified or repaired; that is done when the logs are loaded.

| wanted | where it stands |
|---|---|
| topic id | partition.metadata |
| highest leader epoch | leader-epoch-checkpoint, and batches that are newer than it |
| highest producer id | newest readable snapshot, and batches behind it; values in `__transaction_state` |

Batches are read by their headers alone. After a clean stop there are none behind the newest snapshot; after
an unclean one they are at most what Kafka's own recovery reads.

Runs in: controller, in a worker thread, before any storage process is forked. No state.
"""
from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

from storage.checkpoint.clean_shutdown import has_clean_shutdown_marker
from storage.checkpoint.leader_epoch_checkpoint import LEADER_EPOCH_CHECKPOINT, read_leader_epoch_checkpoint
from storage.checkpoint.offset_checkpoint import CLEANER_OFFSET_CHECKPOINT, read_offset_checkpoint
from storage.checkpoint.partition_metadata import PARTITION_METADATA, read_partition_metadata
from storage.errors import CorruptLogError
from storage.fs import OS_FILES, FileLayer
from storage.log.file_names import (
    FOREIGN_DIRECTORIES,
    LOG_SUFFIX,
    SNAPSHOT_SUFFIX,
    DirectoryKind,
    UnknownDirectoryError,
    offset_of_file_name,
    parse_partition_directory,
    segment_file_name,
)
from storage.log.producer_snapshot import ProducerSnapshots
from storage.log.segment_walk import WalkedBatch, walk_batches
from storage.record.batch import NO_LEADER_EPOCH, NO_PRODUCER_ID
from storage.record.errors import RecordError
from storage.record.records import iterate_records

TRANSACTION_STATE_TOPIC: Final = "__transaction_state"
_TRANSACTION_LOG_VERSIONS: Final = frozenset({0, 1})
_TRANSACTION_LOG_VALUE = struct.Struct(">hq")  # version, producer id; the same in both versions
# A batch of the coordinator holds one transactional id; compaction never merges batches.
_TRANSACTION_BATCH_SIZE_BYTES_MAX: Final = 64 << 20


class PartitionDirectory(NamedTuple):
    """A live replica: neither `-delete`, `-future` nor `-stray`."""

    topic: str
    partition: int
    path: str


class PartitionFindings(NamedTuple):
    """topic_id: 16 bytes or None. leader_epoch, producer_id: the highest seen, -1 if none was."""

    directory: PartitionDirectory
    topic_id: bytes | None
    leader_epoch: int
    producer_id: int


@dataclass(frozen=True, slots=True)
class DirectorySurvey:
    """compacted_topics: the cleaner has worked on them. problems: files that could not be made use of."""

    path: str
    was_clean: bool
    partitions: tuple[PartitionFindings, ...]
    compacted_topics: frozenset[str]
    problems: tuple[str, ...]


def live_partitions(path: str, files: FileLayer = OS_FILES) -> list[PartitionDirectory]:
    """In order of the names. Directories that are no partition are passed by: loading refuses them. OSError."""
    found = []
    for entry in files.list_directory(path):
        if not entry.is_directory or entry.name in FOREIGN_DIRECTORIES:
            continue
        try:
            name = parse_partition_directory(entry.name)
        except UnknownDirectoryError:
            continue
        if name.kind is DirectoryKind.LIVE:
            found.append(PartitionDirectory(name.topic, name.partition, f"{path}/{entry.name}"))
    return found


def survey_directory(path: str, files: FileLayer = OS_FILES) -> DirectorySurvey:
    """Raises OSError with the partition's path when something in it cannot be read."""
    problems: list[str] = []
    partitions = tuple(_survey_partition(each, files, problems) for each in live_partitions(path, files))
    try:
        cleaned = read_offset_checkpoint(f"{path}/{CLEANER_OFFSET_CHECKPOINT}", files)
    except CorruptLogError as error:
        problems.append(str(error))
        cleaned = {}
    return DirectorySurvey(path, has_clean_shutdown_marker(path, files), partitions,
                           frozenset(topic for topic, _ in cleaned), tuple(problems))


def _survey_partition(directory: PartitionDirectory, files: FileLayer, problems: list[str]) -> PartitionFindings:
    try:
        return _Survey(directory, files, problems).take()
    except OSError as error:  # pread names no file
        raise OSError(error.errno, error.strerror, error.filename or directory.path) from error


class _Survey:
    """One partition's files."""

    def __init__(self, directory: PartitionDirectory, files: FileLayer, problems: list[str]) -> None:
        self._directory = directory
        self._path = directory.path
        self._files = files
        self._problems = problems
        names = [entry.name for entry in files.list_directory(directory.path) if not entry.is_directory]
        self._bases = _offsets(names, LOG_SUFFIX)
        self._snapshots = ProducerSnapshots(directory.path, _offsets(names, SNAPSHOT_SUFFIX), files)

    def take(self) -> PartitionFindings:
        leader_epoch = self._checkpointed_epoch()
        snapshot_offset, producer_id = self._newest_snapshot()
        # Without the checkpoint only the batches know the epochs, all of them.
        start = 0 if leader_epoch is None else snapshot_offset
        leader_epoch = NO_LEADER_EPOCH if leader_epoch is None else leader_epoch
        for _, batch in self._batches(start):
            if batch.header is not None:
                leader_epoch = max(leader_epoch, batch.header.partition_leader_epoch)
                producer_id = max(producer_id, batch.header.producer_id)
        if self._directory.topic == TRANSACTION_STATE_TOPIC:
            producer_id = max(producer_id, self._highest_transactional())
        return PartitionFindings(self._directory, self._topic_id(), leader_epoch, producer_id)

    def _topic_id(self) -> bytes | None:
        try:
            return read_partition_metadata(f"{self._path}/{PARTITION_METADATA}", self._files)
        except CorruptLogError as error:
            self._problems.append(str(error))
            return None

    def _checkpointed_epoch(self) -> int | None:
        """None: the checkpoint cannot be read."""
        try:
            entries = read_leader_epoch_checkpoint(f"{self._path}/{LEADER_EPOCH_CHECKPOINT}", self._files)
        except CorruptLogError as error:
            self._problems.append(str(error))
            return None
        return max((entry.epoch for entry in entries), default=NO_LEADER_EPOCH)

    def _newest_snapshot(self) -> tuple[int, int]:
        """(offset, highest producer id) of the newest that can be read; (0, -1) without one."""
        for offset in reversed(self._snapshots.offsets):
            try:
                return offset, max(self._snapshots.read(offset), default=NO_PRODUCER_ID)
            except CorruptLogError as error:
                self._problems.append(str(error))
        return 0, NO_PRODUCER_ID

    def _batches(self, offset: int) -> Iterator[tuple[int, WalkedBatch]]:
        """(descriptor, batch) from the segment that holds `offset` on; a torn end is passed by."""
        first = max(bisect_right(self._bases, offset) - 1, 0)
        for base in self._bases[first:]:
            fd = self._files.open_read(f"{self._path}/{segment_file_name(base, LOG_SUFFIX)}")
            try:
                for batch in walk_batches(partial(self._files.pread, fd), 0, self._files.size_bytes(fd)):
                    if batch.last_offset >= offset:
                        yield fd, batch
            finally:
                self._files.close(fd)

    def _highest_transactional(self) -> int:
        """Of the producer ids that the transaction coordinator gave to transactional ids."""
        highest = NO_PRODUCER_ID
        for fd, batch in self._batches(0):
            if batch.header is None or batch.header.is_control:
                continue
            data = bytearray(min(batch.size_bytes, _TRANSACTION_BATCH_SIZE_BYTES_MAX))
            self._files.read_into(fd, data, batch.position)
            try:
                records = iterate_records(data, output_size_bytes_max=_TRANSACTION_BATCH_SIZE_BYTES_MAX)
                highest = max([highest, *(_producer_id(record.value) for record in records)])
            except RecordError as error:
                self._problems.append(f"{self._path}, batch at offset {batch.base_offset}: {error}")
        return highest


def _producer_id(value: bytes | None) -> int:
    """-1 for tombstones and for values of versions yet unknown."""
    if value is None or len(value) < _TRANSACTION_LOG_VALUE.size:
        return NO_PRODUCER_ID
    version, producer_id = _TRANSACTION_LOG_VALUE.unpack_from(value)
    return int(producer_id) if version in _TRANSACTION_LOG_VERSIONS else NO_PRODUCER_ID


def _offsets(names: Sequence[str], suffix: str) -> list[int]:
    return sorted(offset for name in names
                  if name.endswith(suffix) and (offset := offset_of_file_name(name)) is not None)
