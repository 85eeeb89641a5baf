"""`.kafka_cleanshutdown`: its existence says that everything in the directory is as its files claim.

Runs in: storage, at the very start (seen, then deleted before any log is loaded) and as the very last act of
a clean stop. No state. The content (broker epoch, 3.7 and later) never decides anything in ZooKeeper mode.
"""
from __future__ import annotations

import json
import os
from typing import Final

from storage.fs import OS_FILES, FileLayer

CLEAN_SHUTDOWN_MARKER: Final = ".kafka_cleanshutdown"
CLEAN_SHUTDOWN_VERSION: Final = 0
NO_BROKER_EPOCH: Final = -1
_SIZE_BYTES_MAX: Final = 4096


def clean_shutdown_path(directory: str) -> str:
    return os.path.join(directory, CLEAN_SHUTDOWN_MARKER)


def has_clean_shutdown_marker(directory: str, files: FileLayer = OS_FILES) -> bool:
    return files.status(clean_shutdown_path(directory)) is not None


def take_clean_shutdown_marker(directory: str, files: FileLayer = OS_FILES) -> bool:
    """Whether the directory was stopped cleanly; the marker is gone for good before this returns.

    The removal is made durable (Kafka does not bother): else a power cut right after the start would bring
    the marker back over a directory that has since been written to.
    """
    was_there = files.unlink(clean_shutdown_path(directory))
    if was_there:
        files.fsync_directory(directory)
    return was_there


def write_clean_shutdown_marker(directory: str, broker_epoch: int = NO_BROKER_EPOCH,
                                files: FileLayer = OS_FILES) -> None:
    content = {"version": CLEAN_SHUTDOWN_VERSION, "brokerEpoch": broker_epoch}
    data = json.dumps(content, separators=(",", ":")).encode()
    files.durable_write(clean_shutdown_path(directory), data)


def read_clean_shutdown_epoch(directory: str, files: FileLayer = OS_FILES) -> int | None:
    """The broker epoch in the marker; None for an empty (before 3.7), missing or unreadable content."""
    path = clean_shutdown_path(directory)
    status = files.status(path)
    if status is None or status.size_bytes > _SIZE_BYTES_MAX:
        return None
    try:
        content = json.loads(files.read_file(path, _SIZE_BYTES_MAX))
    except (ValueError, RecursionError):
        return None
    epoch = content.get("brokerEpoch") if isinstance(content, dict) else None
    return epoch if isinstance(epoch, int) and not isinstance(epoch, bool) else None
