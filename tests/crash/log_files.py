"""The files of stopped log directories, looked at with our own reader: whole, in order, and what was read.

Also: a partition lies in one directory only (in two it stops Kafka), and every index entry names a batch.
Runs in: the test process; nothing else may have the directories open.
"""
from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from storage.helpers.segment_scan import scan_segment
from storage.record.batch import BatchHeader, read_extent, read_header
from storage.record.records import iterate_records
from tests.crash.ledger import TopicPartition

INDEX_INTERVAL_BYTES = 4096
BATCH_BYTES_MAX = 64 << 20
Records = list[tuple[int, bytes, int]]
_OFFSET_ENTRY = struct.Struct(">ii")
_TIME_ENTRY = struct.Struct(">qi")


def partition_paths(log_dirs: Sequence[Path]) -> list[Path]:
    """Partition directories, those that wait for their deletion left out."""
    return [path for directory in log_dirs for path in sorted(directory.iterdir())
            if path.is_dir() and "." not in path.name]


def segment_paths(partition_path: Path) -> list[Path]:
    return sorted(partition_path.glob("*.log"))


def check_directories(log_dirs: Sequence[Path], logs: Mapping[TopicPartition, Records], *,
                      indexes: bool = True) -> list[str]:
    """What is wrong with the directories; logs: what the broker last served of each partition.

    indexes: whether those of all segments must be right, too.
    """
    paths = partition_paths(log_dirs)
    problems = [f"partition {name} lies in {count} directories"
                for name, count in Counter(path.name for path in paths).items() if count > 1]
    for path in paths:
        problems += _check_segments(path, indexes)
        topic, _, number = path.name.rpartition("-")
        served = logs.get((topic, int(number)))
        if served is not None and not problems and read_partition(path) != served:
            problems.append(f"{path}: its records are not those that were served")
    missing = {f"{topic}-{number}" for topic, number in logs} - {path.name for path in paths}
    return problems + [f"partition {name} has no directory" for name in sorted(missing)]


def read_partition(path: Path) -> Records:
    """(offset, value, timestamp) of every record on disk."""
    return [(record.offset, record.value or b"", record.timestamp)
            for log in segment_paths(path) for data in [log.read_bytes()] for position, _ in _batches(data)
            for record in iterate_records(data, position, output_size_bytes_max=BATCH_BYTES_MAX)]


def _check_segments(path: Path, indexes: bool) -> list[str]:
    problems = []
    next_offset: int | None = None
    for log in segment_paths(path):
        base_offset = int(log.stem)
        scan = scan_segment(str(log), 0, base_offset, INDEX_INTERVAL_BYTES)
        if scan.invalid_size_bytes:
            problems.append(f"{log}: {scan.invalid_size_bytes} bad bytes at {scan.valid_end_position}: "
                            f"{scan.stop_what}")
            continue
        if next_offset is not None and base_offset != next_offset:
            problems.append(f"{log}: the segment before it ends at offset {next_offset}")
        next_offset = scan.next_offset
        problems += _check_indexes(log) if indexes else ()
    return problems


def _check_indexes(log: Path) -> Iterator[str]:
    base_offset = int(log.stem)
    headers = dict(_batches(log.read_bytes()))
    entries = log.with_suffix(".index").read_bytes()
    if len(entries) % _OFFSET_ENTRY.size:
        yield f"{log.with_suffix('.index')}: {len(entries)} bytes"
        return
    for relative_offset, position in _OFFSET_ENTRY.iter_unpack(entries):
        header = headers.get(position)
        if header is None or header.base_offset + header.last_offset_delta != base_offset + relative_offset:
            yield f"{log.with_suffix('.index')}: ({base_offset + relative_offset}, {position}) is no batch's end"
    times = log.with_suffix(".timeindex").read_bytes()
    if len(times) % _TIME_ENTRY.size:
        yield f"{log.with_suffix('.timeindex')}: {len(times)} bytes"
        return
    yield from _check_times(log, list(_TIME_ENTRY.iter_unpack(times)), headers)


def _check_times(log: Path, entries: list[tuple[int, int]], headers: Mapping[int, BatchHeader]) -> Iterator[str]:
    """An entry names the last offset of a batch with that largest timestamp; both grow."""
    base_offset = int(log.stem)
    known = {(header.max_timestamp, header.base_offset + header.last_offset_delta) for header in headers.values()}
    for index, (timestamp, relative_offset) in enumerate(entries):
        if (timestamp, base_offset + relative_offset) not in known:
            yield f"{log.with_suffix('.timeindex')}: ({timestamp}, {base_offset + relative_offset}) is no batch's"
        if index and (timestamp <= entries[index - 1][0] or relative_offset <= entries[index - 1][1]):
            yield f"{log.with_suffix('.timeindex')}: entry {index} does not follow its predecessor"


class Extent(NamedTuple):
    """One batch in its segment file: bytes [start, end), offsets [base_offset, next_offset)."""

    start: int
    end: int
    base_offset: int
    next_offset: int


def batch_extents(data: bytes | bytearray) -> list[Extent]:
    """Of the whole batches at the beginning of a segment's content."""
    return [Extent(position, position + header.size_bytes, header.base_offset, header.next_offset)
            for position, header in _batches(data)]


def _batches(data: bytes | bytearray) -> Iterator[tuple[int, BatchHeader]]:
    position = 0
    while position < len(data):
        extent = read_extent(data, position, len(data))
        if extent is None:
            return
        yield position, read_header(data, position)
        position += extent.size_bytes
