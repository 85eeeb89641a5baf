"""Segments leave a log, or one takes the place of several, in steps that a crash may interrupt anywhere.

Runs in: storage (writer thread), within a change of names that the log has announced (odd segment-list
version). No state.

A swap goes as in Kafka's LocalLog.replaceSegments, and `leftovers.py` ends or undoes it at the next start:

    1. `.cleaned` files become `.swap`, the log first.   Before the last rename: all of it is undone.
    2. the old segments' files become `.deleted`.        From here on: finished at the next start.
    3. `.swap` files get their names, the log first.

Each step is on the disk before the next begins: a rename that overtakes another could leave neither old nor
new. Readers keep the descriptors they have; the old files stay for file.delete.delay.ms.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from storage.fs import FileLayer
from storage.log.environment import LogEnvironment
from storage.log.failures import DirectoryFailed
from storage.log.file_names import CLEANED_SUFFIX, DELETED_SUFFIX, SEGMENT_SUFFIXES, SWAP_SUFFIX
from storage.log.log_segment import LogSegment
from storage.log.producer_snapshot import ProducerSnapshots

if TYPE_CHECKING:
    from storage.log.partition_log import PartitionLog


def retire_segment(segment: LogSegment, snapshots: ProducerSnapshots | None, environment: LogEnvironment,
                   delay_ms: int) -> None:
    """Rename its files, with the producer snapshot of its base, to `.deleted`; they go after the delay."""
    segment.release()
    files = environment.files
    paths = [segment.path(suffix) for suffix in SEGMENT_SUFFIXES]
    if snapshots is not None and segment.base_offset in snapshots.offsets:
        paths.append(snapshots.path(segment.base_offset))
        snapshots.forget(segment.base_offset)
    renamed = []
    for path in paths:
        if files.status(path) is not None:
            files.rename(path, path + DELETED_SUFFIX)
            renamed.append(path + DELETED_SUFFIX)
    environment.deletes.add(renamed, delay_ms)


def swap_in(log: PartitionLog, old: Sequence[LogSegment], size_bytes: int, modified_time_ms: int,
            environment: LogEnvironment) -> None:
    """`old`: neighbours in the log, none of them active. The new segment keeps the first one's base offset
    and snapshot, and the time of the last one's log file: retention may depend on it.

    Raises DirectoryFailed whatever the system said, for names are half changed then: only a start settles that.
    """
    try:
        _swap_files(log, old, modified_time_ms, environment)
    except OSError as error:
        raise DirectoryFailed(log.path, error, "swapping in a compacted segment") from error
    first = old[0]
    new = LogSegment(log.path, first.base_offset, size_bytes, log.config, environment.files,
                     now_ms=first.created_ms, roll_jitter_ms=first.roll_jitter_ms, exists=True)
    index = log.segments.index(first)
    log.segments[index:index + len(old)] = [new]


def _swap_files(log: PartitionLog, old: Sequence[LogSegment], modified_time_ms: int,
                environment: LogEnvironment) -> None:
    files, directory = environment.files, log.path
    first = old[0]
    paths = [first.path(suffix) for suffix in SEGMENT_SUFFIXES if files.status(first.path(suffix) + CLEANED_SUFFIX)]
    for path in paths:
        files.set_modified_time(path + CLEANED_SUFFIX, modified_time_ms)
    _rename_all(files, paths, CLEANED_SUFFIX, SWAP_SUFFIX)
    files.fsync_directory(directory)
    for segment in old:
        retire_segment(segment, None if segment is first else log.snapshots, environment,
                       log.config.file_delete_delay_ms)
    files.fsync_directory(directory)
    _rename_all(files, paths, SWAP_SUFFIX, "")
    files.fsync_directory(directory)


def _rename_all(files: FileLayer, paths: Sequence[str], before: str, after: str) -> None:
    for path in paths:
        files.rename(path + before, path + after)
