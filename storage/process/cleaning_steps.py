"""One log's compaction seen from storage: what is asked of the helper, and what is done with its answers.

Runs in: storage, writer thread. One object per cleaning, driven by `log_cleaner.py`: `steps` is a generator
that yields a request and gets the helper's answer, so that the writer thread never waits for a helper.

The log goes on while the helper reads: it may be truncated, deleted or configured otherwise. Before every
swap the segments that the offset map was made of are compared with what they were; if any is gone or cut,
the cleaning is abandoned, for the map may know a record that is there no longer.
"""
from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from storage.cleaner.dirtiness import CleanableLog, SegmentSizes, group_segments
from storage.cleaner.offset_map import size_bytes_for
from storage.fs import FileLayer
from storage.helpers.cleaner_main import CLEAN_GROUP, CLEAN_LOG
from storage.helpers.cleaning import GroupRequest, GroupResult, MapRequest, MapResult
from storage.log.file_names import (
    CLEANED_SUFFIX,
    OFFSET_INDEX_SUFFIX,
    SEGMENT_SUFFIXES,
    TIME_INDEX_SUFFIX,
    TXN_INDEX_SUFFIX,
)
from storage.log.log_segment import LogSegment
from storage.log.partition_log import PartitionLog

log = logging.getLogger(__name__)

IO_SIZE_BYTES_MIN: Final = 64 << 10


class CleanerShare(NamedTuple):
    """What one helper of this directory may use."""

    map_size_bytes_max: int
    load_factor: float
    io_size_bytes: int
    bytes_per_second: float


class HelperRequest(NamedTuple):
    """kind and fields of a message, plain values beside them, descriptors for the helper (ours to close)."""

    kind: str
    fields: tuple[Any, ...]
    extra: dict[str, int]
    fds: tuple[int, ...] = ()


class UncleanableError(Exception):
    """Something is wrong with the log, or with the cleaner's means."""


class CleaningAbandonedError(Exception):
    """The log has changed under the cleaning; nothing is wrong with it."""


@dataclass(slots=True)
class CleaningReport:
    """Bytes and records of a cleaning, for the log line and for tests."""

    end_offset: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    records_read: int = 0
    records_kept: int = 0
    invalid: int = 0
    utilization: float = 0.0
    groups: int = 0


Steps = Generator[HelperRequest, list[Any], CleaningReport]


@dataclass(slots=True)
class CleaningSteps:
    """is_wanted(log): it is still here and compacted. on_swapped(log): names have changed."""

    log: PartitionLog
    cleanable: CleanableLog
    share: CleanerShare
    files: FileLayer
    now_ms: int
    is_wanted: Callable[[PartitionLog], bool]
    on_swapped: Callable[[PartitionLog], None]
    report: CleaningReport = field(default_factory=CleaningReport)
    _sources: dict[LogSegment, int] = field(default_factory=dict)
    _modified_ms: dict[LogSegment, int] = field(default_factory=dict)
    _legacy_horizon_ms: int = 0

    def steps(self) -> Steps:
        """Raises CleaningAbandonedError, OSError (a full disk: later), DirectoryFailed."""
        sources = [segment for segment in self.log.segments
                   if segment.base_offset < self.cleanable.first_uncleanable_offset]
        self._sources = {segment: segment.size_bytes for segment in sources}
        self._legacy_horizon_ms = self._legacy_delete_horizon_ms(sources)
        mapped = MapResult(*(yield self._map_request(sources)))
        self._check_unchanged()
        self.report.end_offset, self.report.utilization = mapped.end_offset, mapped.utilization
        if mapped.end_offset <= self.cleanable.first_dirty_offset:
            raise UncleanableError("the offset map does not even take the first dirty batch: raise "
                                   "log.cleaner.dedupe.buffer.size, or lower log.cleaner.threads")
        for group in self._groups([each for each in sources if each.base_offset < mapped.end_offset]):
            result = yield from self._clean(group)
            self._swap(group, result)
        return self.report

    def _clean(self, group: Sequence[LogSegment]) -> Generator[HelperRequest, list[Any], GroupResult]:
        """Finished `.cleaned` files, or none."""
        try:
            fds = self._create_outputs(group[0])
            try:
                answer = yield self._group_request(group, fds)
            finally:
                for fd in fds:
                    self.files.close(fd)
            self._check_unchanged()
        except BaseException:  # whatever ends the cleaning, an exit of the generator included
            self._remove_outputs(group[0])
            raise
        return GroupResult(*answer)

    def check(self) -> None:
        """Raises CleaningAbandonedError if the cleaning is pointless; at any time."""
        self._check_unchanged()

    # -- requests

    def _map_request(self, sources: Sequence[LogSegment]) -> HelperRequest:
        cleanable, config = self.cleanable, self.log.config
        start, end = cleanable.first_dirty_offset, cleanable.first_uncleanable_offset
        followers = [segment.base_offset for segment in sources[1:]] + [end]
        dirty = [segment for segment, following in zip(sources, followers, strict=True) if following > start]
        position = 0
        if dirty and dirty[0].base_offset < start:
            position = dirty[0].position_before(start)
            dirty[0].release()
        fields = MapRequest(
            self.log.path, [(segment.base_offset, segment.size_bytes) for segment in dirty],
            [segment.base_offset for segment in self.log.segments], start, position, end,
            self.share.load_factor, max(self.share.io_size_bytes, IO_SIZE_BYTES_MIN),
            self.share.bytes_per_second, self.now_ms, config.delete_retention_ms, config.index_interval_bytes,
            config.index_size_bytes_max)
        size_bytes = size_bytes_for(end - start, self.share.load_factor, self.share.map_size_bytes_max)
        return HelperRequest(CLEAN_LOG, fields, {"map_size_bytes": size_bytes})

    def _groups(self, sources: Sequence[LogSegment]) -> list[list[LogSegment]]:
        by_base = {segment.base_offset: segment for segment in sources}
        sizes = [SegmentSizes(segment.base_offset, segment.size_bytes,
                              self._file_size(segment.path(OFFSET_INDEX_SUFFIX)),
                              self._file_size(segment.path(TIME_INDEX_SUFFIX))) for segment in sources]
        config = self.log.config
        groups = group_segments(sizes, log_size_bytes_max=config.segment_size_bytes,
                                index_size_bytes_max=config.index_size_bytes_max,
                                first_uncleanable_offset=self.cleanable.first_uncleanable_offset)
        return [[by_base[each.base_offset] for each in group] for group in groups]

    def _file_size(self, path: str) -> int:
        status = self.files.status(path)
        return 0 if status is None else status.size_bytes

    def _group_request(self, group: Sequence[LogSegment], fds: tuple[int, ...]) -> HelperRequest:
        base = group[0].base_offset
        last_base = group[-1].base_offset
        end = next(segment.base_offset for segment in self.log.segments if segment.base_offset > last_base)
        producers = [(producer_id, entry.last_data_offset, entry.producer_epoch)
                     for producer_id, entry in self.log.producer_state.producers.items()
                     if entry.last_data_offset < 0 or base <= entry.last_data_offset < end]
        segments = [(segment.base_offset, self._sources[segment], self._modified(segment) > self._legacy_horizon_ms)
                    for segment in group]
        return HelperRequest(CLEAN_GROUP, GroupRequest(base, segments, producers), {}, fds)

    def _legacy_delete_horizon_ms(self, sources: Sequence[LogSegment]) -> int:
        """Tombstones of formats v0 and v1 go with segments that were last written before this."""
        clean = [segment for segment in sources if segment.base_offset < self.cleanable.first_dirty_offset]
        return self._modified(clean[-1]) - self.log.config.delete_retention_ms if clean else 0

    def _modified(self, segment: LogSegment) -> int:
        """As it was before this cleaning."""
        if segment not in self._modified_ms:
            status = self.files.status(segment.log.path)
            self._modified_ms[segment] = self.now_ms if status is None else status.modified_time_ms
        return self._modified_ms[segment]

    # -- answers

    def _check_unchanged(self) -> None:
        if not self.is_wanted(self.log):
            raise CleaningAbandonedError("the log is gone, or no longer compacted")
        here = set(map(id, self.log.segments))
        for segment, size_bytes in self._sources.items():
            if id(segment) not in here or segment.size_bytes != size_bytes:
                raise CleaningAbandonedError(f"segment {segment.base_offset} was removed or cut")

    def _swap(self, group: Sequence[LogSegment], result: GroupResult) -> None:
        if not result.has_aborted:
            self.files.unlink(group[0].path(TXN_INDEX_SUFFIX) + CLEANED_SUFFIX)
        before = sum(segment.size_bytes for segment in group)
        modified_ms = self._modified(group[-1])
        self.log.replace_segments(group, result.log_size_bytes, modified_ms)
        for segment in group:
            del self._sources[segment]
        report = self.report
        report.groups += 1
        report.bytes_read += before
        report.bytes_written += result.log_size_bytes
        report.records_read += result.records_read
        report.records_kept += result.records_kept
        report.invalid += result.invalid
        self.on_swapped(self.log)

    # -- files

    def _create_outputs(self, first: LogSegment) -> tuple[int, ...]:
        """New files: a helper of an earlier attempt may still hold descriptors of files of these names."""
        fds: list[int] = []
        try:
            for suffix in SEGMENT_SUFFIXES:
                path = first.path(suffix) + CLEANED_SUFFIX
                self.files.unlink(path)
                fds.append(self.files.open_write(path, exclusive=True))
        except OSError:
            for fd in fds:
                self.files.close(fd)
            raise
        return tuple(fds)

    def _remove_outputs(self, first: LogSegment) -> None:
        """What cannot be removed goes at the next start, or is replaced by the next cleaning."""
        for suffix in SEGMENT_SUFFIXES:
            path = first.path(suffix) + CLEANED_SUFFIX
            try:
                self.files.unlink(path)
            except OSError as error:
                log.warning("%s: not removed: %s", path, error)
