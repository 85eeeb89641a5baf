"""Which files an fsync has to cover before the recovery point may move, and the fsync itself.

Runs in: storage. The writer thread makes the plan and applies its result; `run` may happen in a pool thread,
because it only opens, syncs and closes by path and shares nothing.

Of the segment that is being filled only the `.log` is synced: recovery starts at the base of the segment that
holds the recovery point and makes its indexes anew. A segment that ended is trusted later, with its indexes
and the producer snapshot that was written when it ended, so these are synced with it.
"""
from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from storage.fs import FileLayer
from storage.log.failures import PASSING_ERRNOS, DirectoryFailed
from storage.log.file_names import (
    INDEX_SUFFIXES,
    LOG_SUFFIX,
    SNAPSHOT_SUFFIX,
    segment_file_name,
)
from storage.log.log_segment import LogSegment


@dataclass(frozen=True, slots=True)
class FlushPlan:
    """recovery_point: what the log's may become once `run` has returned. directories: synced after paths.

    truncation_count: of the log when the plan was made; after another truncation the plan says nothing.
    """

    recovery_point: int
    paths: tuple[str, ...]
    directories: tuple[str, ...]
    truncation_count: int = 0

    def run(self, files: FileLayer) -> None:
        """Raises DirectoryFailed if the disk refused: the pages count as lost, never try again.

        A file that is gone was deleted with its segment meanwhile. An OSError that is no answer of the disk
        (no descriptors) is raised as it is.
        """
        for path in self.paths:
            fd = self._open(files, path)
            if fd is None:
                continue
            try:
                files.fdatasync(fd)
            except OSError as error:
                raise DirectoryFailed(path, error, "fsync") from error
            finally:
                files.close(fd)
        for directory in self.directories:
            self._sync_directory(files, directory)

    def _open(self, files: FileLayer, path: str) -> int | None:
        try:
            return files.open_read(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in PASSING_ERRNOS:
                raise
            raise DirectoryFailed(path, error, "open for fsync") from error

    def _sync_directory(self, files: FileLayer, directory: str) -> None:
        try:
            files.fsync_directory(directory)
        except FileNotFoundError:
            return  # renamed to -delete meanwhile
        except OSError as error:
            raise DirectoryFailed(directory, error, "fsync of the directory") from error


def plan_flush(directory: str, segments: Sequence[LogSegment], recovery_point: int,
               offset: int, truncation_count: int = 0) -> FlushPlan | None:
    """Cover [recovery_point, offset); None if that is nothing. segments: all of the log, ascending."""
    if offset <= recovery_point:
        return None
    paths: list[str] = []
    new_files = False
    for index, segment in enumerate(segments):
        next_base = segments[index + 1].base_offset if index + 1 < len(segments) else None
        if (next_base is not None and next_base <= recovery_point) or segment.base_offset >= offset:
            continue
        new_files = new_files or segment.base_offset >= recovery_point
        paths.append(segment.path(LOG_SUFFIX))
        if next_base is not None:
            paths += ended_segment_paths(segment, next_base)
    directories = [directory] if new_files else []
    if segments[0].base_offset >= recovery_point:
        directories.append(os.path.dirname(directory))  # the partition itself may be new
    return FlushPlan(offset, tuple(paths), tuple(directories), truncation_count)


def ended_segment_paths(segment: LogSegment, next_base_offset: int) -> list[str]:
    """What has to be durable beside the `.log` of a segment that is no longer filled."""
    return [*map(segment.path, INDEX_SUFFIXES),
            f"{segment.directory}/{segment_file_name(next_base_offset, SNAPSHOT_SUFFIX)}"]
