"""`leader-epoch-checkpoint` of a partition directory: `epoch startOffset` per line, oldest first.

Runs in: storage, writer thread of the directory. No state: the cache that it persists is storage.log's.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

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

LEADER_EPOCH_CHECKPOINT: Final = "leader-epoch-checkpoint"


class EpochEntry(NamedTuple):
    """The first offset written under a leader epoch."""

    epoch: int
    start_offset: int


def read_leader_epoch_checkpoint(path: str, files: FileLayer = OS_FILES) -> list[EpochEntry]:
    """Entries in file order (their sense is the cache's to check); empty if missing or empty."""
    data = read_text_file(files, path, CHECKPOINT_SIZE_BYTES_MAX)
    return [] if data is None else decode_leader_epoch_checkpoint(path, data)


def decode_leader_epoch_checkpoint(path: str, data: bytes) -> list[EpochEntry]:
    return [EpochEntry(parse_number(path, 0, epoch, INT32_MIN, INT32_MAX),
                       parse_number(path, 0, start_offset, INT64_MIN, INT64_MAX))
            for epoch, start_offset in decode_checkpoint(path, data, field_count=2)]


def encode_leader_epoch_checkpoint(entries: Iterable[tuple[int, int]]) -> bytes:
    return encode_checkpoint(f"{epoch} {start_offset}" for epoch, start_offset in entries)


def write_leader_epoch_checkpoint(path: str, entries: Iterable[tuple[int, int]],
                                  files: FileLayer = OS_FILES) -> None:
    files.durable_write(path, encode_leader_epoch_checkpoint(entries))
