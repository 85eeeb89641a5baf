"""What an OSError means for a log directory: no room, or no disk.

Runs in: storage. No state. Kafka's path for a directory that answers EIO is to take it offline; running out
of space (or of descriptors) passes, and must leave everything as it was.
"""
from __future__ import annotations

import errno
from typing import Final

from storage.errors import INCONSISTENT_TOPIC_ID, StorageError

# Conditions that end by themselves or by an operator's `rm`: the caller answers with a retriable error.
PASSING_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class DirectoryFailed(StorageError):
    """The directory cannot be trusted any more: no checkpoint, no marker, no retry.

    path: the file or directory at fault. error: what the system said.
    """

    def __init__(self, path: str, error: OSError, doing: str) -> None:
        super().__init__(f"{path}: {doing}: {error}")
        self.path = path
        self.error = error


class LogShrunkError(StorageError):
    """A log came back shorter than what this boot had already published: pages were lost (REVIEW 18)."""


class InconsistentTopicIdError(StorageError):
    """The directory belongs to another incarnation of the topic; it is not opened for this one."""

    code = INCONSISTENT_TOPIC_ID


def failure_of(path: str, error: OSError, doing: str) -> Exception:
    """The exception to raise for `error`: itself if it passes, else DirectoryFailed."""
    if error.errno in PASSING_ERRNOS:
        return error
    return DirectoryFailed(path, error, doing)
