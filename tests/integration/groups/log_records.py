"""What lies in the logs of __consumer_offsets of a broker's directories, read by our own record code.

Runs in: the test process; files may be appended to meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from storage.record.batch import BatchHeader
from storage.record.records import Record, batch_at, iterate_records

OUTPUT_SIZE_BYTES_MAX = 1 << 20
TOPIC = "__consumer_offsets"


class LoggedRecord(NamedTuple):
    partition: int
    header: BatchHeader
    record: Record


def segments(log_dirs: Sequence[Path]) -> list[Path]:
    """Log files, by partition and offset."""
    found = [path for each in log_dirs for path in each.glob(f"{TOPIC}-*/*.log")]
    return sorted(found, key=lambda path: (int(path.parent.name.rpartition("-")[2]), path.name))


def records(log_dirs: Sequence[Path]) -> Iterator[LoggedRecord]:
    for path in segments(log_dirs):
        partition = int(path.parent.name.rpartition("-")[2])
        data, position = path.read_bytes(), 0
        while position < len(data):
            header = batch_at(data, position)
            for record in iterate_records(data, position, output_size_bytes_max=OUTPUT_SIZE_BYTES_MAX):
                yield LoggedRecord(partition, header, record)
            position += header.size_bytes


def of_group(log_dirs: Sequence[Path], group: str) -> list[LoggedRecord]:
    """Those whose key names the group, in the order of the log."""
    name = group.encode()
    wanted = len(name).to_bytes(2, "big") + name
    return [
        each for each in records(log_dirs)
        if each.record.key is not None and each.record.key[2:].startswith(wanted)
    ]  # fmt: skip
