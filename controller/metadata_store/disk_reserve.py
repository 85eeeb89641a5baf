"""A real file beside the database that gives its blocks up when the disk is full.

On a full disk the node must still restart, delete topics and elect leaders, and each of these writes a few
pages of metadata. The reserve is given up in steps, so that one greedy neighbour does not take it all, and
filled again when there is room.

Runs in: controller, in the worker thread that commits. Owner: the one `EmbeddedDatabase`.
"""
from __future__ import annotations

import errno
import os

SIZE_BYTES = 2 << 20
STEP_BYTES = 256 << 10
"""A restart touches some tens of pages of 4 KB, in the log and in the file: a step is enough for one."""
REFILL_SECONDS_MIN = 60.0

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class DiskReserve:
    """size_bytes: what is held at the moment."""

    def __init__(self, path: str, now: float) -> None:
        """now: any clock in seconds that only goes forward. A disk without room gives a smaller reserve."""
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self.size_bytes = os.fstat(self._descriptor).st_size
        self._refilled_at = now
        self._refill()

    def release_step(self, now: float) -> bool:
        """Give up one step; False when there is nothing left."""
        if self.size_bytes == 0:
            return False
        self._refilled_at = now
        self.size_bytes = max(self.size_bytes - STEP_BYTES, 0)
        os.ftruncate(self._descriptor, self.size_bytes)
        return True

    def maybe_refill(self, now: float) -> None:
        """After a write that succeeded: take blocks again, now and then."""
        if self.size_bytes < SIZE_BYTES and now - self._refilled_at >= REFILL_SECONDS_MIN:
            self._refilled_at = now
            self._refill()

    def _refill(self) -> None:
        try:
            os.posix_fallocate(self._descriptor, 0, SIZE_BYTES)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            os.ftruncate(self._descriptor, self.size_bytes)
        else:
            self.size_bytes = SIZE_BYTES

    def close(self) -> None:
        os.close(self._descriptor)
