"""The log directories: created if missing, told apart, locked.

Runs in: supervisor, before anything is forked. The lock descriptors go to the storage process of the
directory and stay open in the supervisor, until the last of both is gone.

The lock is an open-file-description lock on `.lock`. It refuses a JVM (and is refused by one), is inherited
by fork, and lasts until the last holder is gone; a POSIX lock would vanish as soon as any descriptor of the
file is closed. A directory that the system refuses is offline, as in Kafka; a directory that somebody else
uses, or that is named twice, ends the start.
"""
from __future__ import annotations

import errno
import fcntl
import logging
import os
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

from broker.supervisor.errors import StartError

LOCK_FILE_NAME = ".lock"
LOCK_WAIT_MS_MAX = 2000
"""A tree whose supervisor was killed is gone within a second; a restart need not fail because of it."""
LOCK_RETRY_MS = 50
_FLOCK = struct.Struct("@hhqqi4x")
_log = logging.getLogger("ottla.directories")


@dataclass(frozen=True)
class LogDirectory:
    """One entry of log.dirs. lock_fd: -1 when offline; offline_reason: None when usable."""

    index: int
    path: str
    lock_fd: int
    offline_reason: str | None = None


def prepare_directories(paths: Sequence[str], wait_ms: int = LOCK_WAIT_MS_MAX) -> list[LogDirectory]:
    """Create, check and lock every directory. StartError: named twice, in use, or none usable."""
    absolute = [os.path.abspath(path) for path in paths]
    _refuse_duplicates(absolute)
    directories = [_prepare(index, path, wait_ms) for index, path in enumerate(absolute)]
    if all(directory.offline_reason is not None for directory in directories):
        reasons = "; ".join(f"{directory.path}: {directory.offline_reason}" for directory in directories)
        raise StartError(f"no usable log directory: {reasons}")
    return directories


def _refuse_duplicates(paths: Sequence[str]) -> None:
    by_canonical: dict[str, str] = {}
    for path in paths:
        canonical = os.path.realpath(path)
        if canonical in by_canonical:
            raise StartError(f"log.dirs names one directory twice: {by_canonical[canonical]} and {path} "
                             f"are both {canonical}")
        by_canonical[canonical] = path


def _prepare(index: int, path: str, wait_ms: int) -> LogDirectory:
    try:
        _create_if_missing(path)
        return LogDirectory(index, path, _lock(path, wait_ms))
    except OSError as error:
        reason = error.strerror or str(error)
        _log.error("log directory %s is offline: %s", path, reason)
        return LogDirectory(index, path, -1, reason)


def _create_if_missing(path: str) -> None:
    if os.path.lexists(path):
        if not os.path.isdir(path):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", path)
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "no permission to read and write", path)
        return
    _log.info("log directory %s does not exist, creating it", path)
    os.makedirs(path)
    parent = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def _lock(path: str, wait_ms: int) -> int:
    """Descriptor of the locked `.lock`."""
    fd = os.open(os.path.join(path, LOCK_FILE_NAME), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    deadline = time.monotonic() + wait_ms / 1000
    try:
        while not _try_lock(fd):
            if time.monotonic() >= deadline:
                raise StartError(f"log directory {path} is in use: {_holder(fd)} holds its {LOCK_FILE_NAME}; "
                                 f"stop it first, or use another directory")
            time.sleep(LOCK_RETRY_MS / 1000)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _try_lock(fd: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def _holder(fd: int) -> str:
    """Who holds the lock: the kernel knows the process of a POSIX lock (a JVM), not of ours."""
    held = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    pid = _FLOCK.unpack(held)[4]
    return f"process {pid} (a Kafka broker?)" if pid > 0 else "another Ottla"
