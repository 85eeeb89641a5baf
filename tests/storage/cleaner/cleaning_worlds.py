"""A small world for tests of compaction: records by key, cleanings without processes, what is left in a log."""
from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from storage.cleaner.dirtiness import CleanableLog, LogBounds, look_at
from storage.cleaner.offset_map import OffsetMap
from storage.fs import OS_FILES, FileLayer
from storage.helpers.cleaner_main import CLEAN_LOG
from storage.helpers.cleaning import GroupRequest, LogCleaning, MapRequest, Outputs
from storage.log.partition_log import PartitionLog
from storage.process.cleaning_steps import CleanerShare, CleaningReport, CleaningSteps, Steps
from storage.record.batch import BatchHeader, iterate_headers
from storage.record.records import Producer, Record, build_batch, iterate_records
from tests.storage.log.worlds import NOW_MS, TRANSACTIONAL, append

OUTPUT_BOUND = 1 << 24
SHARE = CleanerShare(map_size_bytes_max=1 << 20, load_factor=0.9, io_size_bytes=1 << 18, bytes_per_second=1e300)

KeyValue = tuple[bytes | None, bytes | None]


def keyed_batch(records: Sequence[KeyValue], *, timestamp: int = NOW_MS, producer: Producer | None = None,
                codec: int = 0, transactional: bool = False) -> memoryview:
    """Offsets 0, 1, ...; times `timestamp`, +1, ..."""
    attributes = codec | (TRANSACTIONAL if transactional else 0)
    made = [Record(index, timestamp + index, key, value) for index, (key, value) in enumerate(records)]
    return memoryview(bytearray(build_batch(made, attributes=attributes, producer=producer or Producer())))


def put(log: PartitionLog, *records: KeyValue, timestamp: int = NOW_MS, codec: int = 0,
        producer: Producer | None = None, transactional: bool = False) -> int:
    """Append one batch; its base offset."""
    batch = keyed_batch(records, timestamp=timestamp, codec=codec, producer=producer, transactional=transactional)
    return append(log, batch, transaction_verified=transactional)[0].base_offset


def cleanable(log: PartitionLog, checkpoint: int | None = None, *, stable_offset: int | None = None,
              now_ms: int = NOW_MS) -> CleanableLog:
    stable = log.log_end_offset if stable_offset is None else stable_offset
    log.on_high_watermark_updated(stable)
    if log.first_unstable_offset >= 0:
        stable = min(stable, log.first_unstable_offset)
    bounds = LogBounds(log.log_start_offset, log.log_end_offset, stable)
    return look_at(log.segments, bounds, checkpoint, log.config, now_ms, lambda segment: -1)


def new_cleaning(log: PartitionLog, look: CleanableLog, now_ms: int, files: FileLayer = OS_FILES,
                 share: CleanerShare = SHARE) -> CleaningSteps:
    return CleaningSteps(log, look, share, files, now_ms, lambda _: True, lambda _: None)


def run(plan: CleaningSteps, files: FileLayer = OS_FILES) -> CleaningReport:
    """The whole cleaning, with the helper's work done here."""
    steps = plan.steps()
    try:
        return _drive(steps, files)
    finally:
        with contextlib.suppress(Exception):  # files that play dead raise here once more
            steps.close()


def _drive(steps: Steps, files: FileLayer) -> CleaningReport:
    request = next(steps)
    assert request.kind == CLEAN_LOG
    buffer = memoryview(bytearray(request.extra["map_size_bytes"]))
    fields = MapRequest(*request.fields)
    cleaning = LogCleaning(fields, OffsetMap(buffer, fields.load_factor), files, lambda: False)
    answer: Sequence[object] = cleaning.build_map()
    while True:
        try:
            request = steps.send(list(answer))
        except StopIteration as done:
            report = done.value
            assert isinstance(report, CleaningReport)
            return report
        answer = cleaning.clean_group(GroupRequest(*request.fields), Outputs(*request.fds))


def clean(log: PartitionLog, checkpoint: int | None = None, *, now_ms: int = NOW_MS,
          stable_offset: int | None = None, share: CleanerShare = SHARE) -> CleaningReport:
    """Compact all that may be compacted."""
    look = cleanable(log, checkpoint, stable_offset=stable_offset, now_ms=now_ms)
    return run(new_cleaning(log, look, now_ms, share=share))


def headers(log: PartitionLog) -> list[BatchHeader]:
    return [header for data in _segments(log) for _, header in iterate_headers(data)]


def records(log: PartitionLog) -> list[Record]:
    """Every record of data batches, in order."""
    return [record for data in _segments(log) for position, header in iterate_headers(data)
            if not header.is_control
            for record in iterate_records(data, position, output_size_bytes_max=OUTPUT_BOUND)]


def _segments(log: PartitionLog) -> Iterator[bytes]:
    return (Path(segment.log.path).read_bytes() for segment in log.segments)


def contents(log: PartitionLog) -> list[tuple[int, bytes | None, bytes | None]]:
    """(offset, key, value) of every record."""
    return [(record.offset, record.key, record.value) for record in records(log)]


def bases(log: PartitionLog) -> list[int]:
    return [segment.base_offset for segment in log.segments]


def leftovers(log: PartitionLog) -> list[str]:
    return [name for name in os.listdir(log.path) if name.endswith((".cleaned", ".swap"))]
