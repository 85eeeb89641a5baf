"""Names inside a log directory: segment files, and what the name of a partition directory says. PURE.

Runs in: storage, helpers. Nobody owns state here. The names are Kafka's, because either broker must be able
to start on the other's directory (storage/FORMAT.md, "Names").
"""
from __future__ import annotations

import enum
import re
from typing import Final, NamedTuple

from storage.errors import StorageError

LOG_SUFFIX: Final = ".log"
OFFSET_INDEX_SUFFIX: Final = ".index"
TIME_INDEX_SUFFIX: Final = ".timeindex"
TXN_INDEX_SUFFIX: Final = ".txnindex"
SNAPSHOT_SUFFIX: Final = ".snapshot"
INDEX_SUFFIXES: Final = (OFFSET_INDEX_SUFFIX, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX)
SEGMENT_SUFFIXES: Final = (LOG_SUFFIX, *INDEX_SUFFIXES)

DELETED_SUFFIX: Final = ".deleted"
CLEANED_SUFFIX: Final = ".cleaned"
SWAP_SUFFIX: Final = ".swap"

# Directories that Kafka's own loader passes by: tiered storage's cache and the KRaft metadata log.
FOREIGN_DIRECTORIES: Final = frozenset({"remote-log-index-cache", "__cluster_metadata-0"})

NAME_LENGTH_MAX: Final = 255
_UNIQUE_NAME = re.compile(r"(\S+)-(\S+)\.(\S+)-(delete|future|stray)")
_OFFSET = re.compile(r"[0-9]{1,20}")
_PARTITION = re.compile(r"[0-9]{1,10}")
_INT64_MAX: Final = (1 << 63) - 1
_INT32_MAX: Final = (1 << 31) - 1


class DirectoryKind(enum.Enum):
    """What a partition directory is there for; the value is the suffix of its name."""

    LIVE = ""
    DELETE = "-delete"
    FUTURE = "-future"
    STRAY = "-stray"


class PartitionDirectoryName(NamedTuple):
    topic: str
    partition: int
    kind: DirectoryKind


class UnknownDirectoryError(StorageError):
    """A directory that is no partition lies in a log directory: Kafka refuses to start on it, so do we."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"found the directory {name!r}, which is not named topic-partition (nor topic-partition.id-delete, "
            "-future or -stray): a log directory may only hold partitions. Move it elsewhere and start again")
        self.name = name


def segment_file_name(base_offset: int, suffix: str) -> str:
    return f"{base_offset:020d}{suffix}"


def offset_of_file_name(name: str) -> int | None:
    """The offset that a file's name begins with; None for names of another shape."""
    digits, dot, _ = name.partition(".")
    if not dot or not _OFFSET.fullmatch(digits):
        return None
    offset = int(digits)
    return offset if offset <= _INT64_MAX else None


def partition_directory_name(topic: str, partition: int) -> str:
    return f"{topic}-{partition}"


def delete_directory_name(topic: str, partition: int, unique_id: str) -> str:
    """unique_id: 32 hex digits. The topic is cut so that the whole fits a file name."""
    ending = f"-{partition}.{unique_id}{DirectoryKind.DELETE.value}"
    return topic[:NAME_LENGTH_MAX - len(ending)] + ending


def parse_partition_directory(name: str) -> PartitionDirectoryName:
    """Raises UnknownDirectoryError for what Kafka's loader does not take for a partition either."""
    kind = next((kind for kind in DirectoryKind if kind.value and name.endswith(kind.value)),
                DirectoryKind.LIVE)
    plain = name
    if kind is not DirectoryKind.LIVE:
        if not _UNIQUE_NAME.fullmatch(name):
            raise UnknownDirectoryError(name)
        plain = name[:name.rindex(".")]
    topic, dash, partition = plain.rpartition("-")
    if not dash or not topic or not _PARTITION.fullmatch(partition) or int(partition) > _INT32_MAX:
        raise UnknownDirectoryError(name)
    return PartitionDirectoryName(topic, int(partition), kind)
