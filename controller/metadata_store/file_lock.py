"""One process at a time on an embedded store: an open-file-description lock beside the database.

Why not SQLite's own lock: it says only "database is locked". The lock file holds a line about its owner, so
that a second broker is told who has the store. The kind of lock (F_OFD_SETLK) vanishes with its last
descriptor and not, like a POSIX lock, when any descriptor of the file closes.

Runs in: controller. The descriptor is held by the one `EmbeddedDatabase`.
"""
from __future__ import annotations

import errno
import fcntl
import os
import struct

_FLOCK = struct.Struct("hhqqi4x")  # l_type, l_whence, l_start, l_len, l_pid (must be 0), padding
_OWNER_BYTES_MAX = 512


class LockHeldError(Exception):
    """Somebody else holds the lock. owner: the line that the holder wrote, '' if unreadable."""

    def __init__(self, path: str, owner: str) -> None:
        super().__init__(f"{path} is locked by {owner or 'another process'}")
        self.owner = owner


class FileLock:
    """Taken by the constructor, released by `release` or the end of the process."""

    def __init__(self, path: str, owner: str) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK,
                        _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        except OSError as error:
            holder = os.pread(self._descriptor, _OWNER_BYTES_MAX, 0).decode("utf-8", "replace").strip()
            os.close(self._descriptor)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise LockHeldError(path, holder) from error
            raise
        self._describe(owner)

    def _describe(self, owner: str) -> None:
        """In place and always of the same size: a full disk has room for what is there already."""
        line = owner.encode()[:_OWNER_BYTES_MAX - 1].ljust(_OWNER_BYTES_MAX - 1) + b"\n"
        try:
            os.pwrite(self._descriptor, line, 0)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise  # without room, the lock holds all the same and only has no name

    def release(self) -> None:
        os.close(self._descriptor)
