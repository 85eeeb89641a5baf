"""Offset checkpoints of a log directory: recovery point, log start, high watermark, cleaner.

Runs in: storage, writer thread of the directory. No state: a call reads or replaces one file.
Line: `topic partition offset`. Kafka writes hash order; we write name order, which Kafka reads as well.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from storage.checkpoint.checkpoint_file import (
    CHECKPOINT_SIZE_BYTES_MAX,
    INT32_MAX,
    INT32_MIN,
    INT64_MAX,
    INT64_MIN,
    decode_checkpoint,
    encode_checkpoint,
    parse_number,
    read_text_file,
)
from storage.fs import OS_FILES, FileLayer

RECOVERY_POINT_CHECKPOINT: Final = "recovery-point-offset-checkpoint"
LOG_START_OFFSET_CHECKPOINT: Final = "log-start-offset-checkpoint"
HIGH_WATERMARK_CHECKPOINT: Final = "replication-offset-checkpoint"
CLEANER_OFFSET_CHECKPOINT: Final = "cleaner-offset-checkpoint"

TopicPartition = tuple[str, int]


def read_offset_checkpoint(path: str, files: FileLayer = OS_FILES) -> dict[TopicPartition, int]:
    """Offsets by (topic, partition); empty if the file is missing or empty. Raises CorruptLogError.

    What to do about a corrupt one depends on the file: recovery point and log start count as empty, a
    corrupt high watermark takes the directory offline (on-disk facts, section 4). The caller decides.
    """
    data = read_text_file(files, path, CHECKPOINT_SIZE_BYTES_MAX)
    return {} if data is None else decode_offset_checkpoint(path, data)


def decode_offset_checkpoint(path: str, data: bytes) -> dict[TopicPartition, int]:
    offsets = {}
    for topic, partition, offset in decode_checkpoint(path, data, field_count=3):
        number = parse_number(path, 0, partition, INT32_MIN, INT32_MAX)
        offsets[topic, number] = parse_number(path, 0, offset, INT64_MIN, INT64_MAX)
    return offsets


def encode_offset_checkpoint(offsets: Mapping[TopicPartition, int]) -> bytes:
    return encode_checkpoint(f"{topic} {partition} {offset}"
                             for (topic, partition), offset in sorted(offsets.items()))


def write_offset_checkpoint(path: str, offsets: Mapping[TopicPartition, int],
                            files: FileLayer = OS_FILES) -> None:
    files.durable_write(path, encode_offset_checkpoint(offsets))
