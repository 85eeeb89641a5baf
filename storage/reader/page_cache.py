"""Whether file bytes are in the page cache: the loop sends warm bytes and leaves cold ones to workers.

Runs in: front end, one probe per log directory; the probe belongs to the loop.

Ways to know, best first, settled by the first answers of the directory's own file system:
- tmpfs and ramfs: always warm (and RWF_NOWAIT is not supported there);
- cachestat (Linux 6.5): counts the cached pages of a range, copies nothing;
- preadv with RWF_NOWAIT: proves only the bytes that it copies, so it copies them all, into a scratch buffer;
- neither (FUSE, some network file systems): unknown, which callers treat as cold.
"""
from __future__ import annotations

import ctypes
import enum
import errno
import mmap
import os
from typing import Final

# The number is the same on every architecture: newer system calls are.
_SYS_CACHESTAT: Final = 451
_MEMORY_FILE_SYSTEMS: Final = frozenset({0x01021994, 0x858458F6})  # TMPFS_MAGIC, RAMFS_MAGIC of statfs(2)
_SCRATCH_SIZE_BYTES: Final = 256 * 1024
# The call itself, or the call on this file system or file, is not there for us.
_NOT_SUPPORTED: Final = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL, errno.EACCES})


class Residency(enum.IntEnum):
    """Anything but WARM is true: a worker must send it."""

    WARM = 0
    COLD = 1
    UNKNOWN = 2


class _Range(ctypes.Structure):
    _fields_ = [("offset", ctypes.c_uint64), ("length", ctypes.c_uint64)]


class _Statistics(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in
                ("cached", "dirty", "writeback", "evicted", "recently_evicted")]


# PyDLL keeps the interpreter lock: the call takes a microsecond, giving up the lock may cost milliseconds.
_libc = ctypes.PyDLL(None, use_errno=True)


class PageCacheProbe:
    """Answers for the files of one directory (one file system)."""

    def __init__(self, directory: str) -> None:
        self.always_warm = _file_system_type(directory) in _MEMORY_FILE_SYSTEMS
        self.cachestat_works = True  # until it says otherwise
        self.nowait_works = not self.always_warm
        self._scratch: memoryview | None = None

    def probe_cold(self, fd: int, position: int, size_bytes: int) -> Residency:
        """Residency of the range, which lies within the file. Raises OSError (EIO)."""
        if self.always_warm or size_bytes <= 0:
            return Residency.WARM
        if self.cachestat_works:
            cached = self._cached_page_count(fd, position, size_bytes)
            if cached is not None:
                return Residency.WARM if cached >= page_count(position, size_bytes) else Residency.COLD
        if self.nowait_works:
            return self._probe_by_copy(fd, position, size_bytes)
        return Residency.UNKNOWN

    def pread_nowait(self, fd: int, size_bytes: int, position: int) -> bytes | None:
        """As os.pread; None if the disk would have to be waited for.

        Where the file system gives no way to know, it reads and may wait: headers and index entries have no
        other way, and a partition there would otherwise never be served.
        """
        if self.nowait_works:
            buffer = bytearray(size_bytes)
            count = self._preadv_nowait(fd, memoryview(buffer), position)
            if count is not None:
                return None if count < 0 else bytes(buffer[:count])
        if self.probe_cold(fd, position, size_bytes) is Residency.COLD:
            return None
        return os.pread(fd, size_bytes, position)

    def _cached_page_count(self, fd: int, position: int, size_bytes: int) -> int | None:
        wanted, statistics = _Range(position, size_bytes), _Statistics()
        result = _libc.syscall(ctypes.c_long(_SYS_CACHESTAT), ctypes.c_uint(fd), ctypes.byref(wanted),
                               ctypes.byref(statistics), ctypes.c_uint(0))
        if result == 0:
            return int(statistics.cached)
        code = ctypes.get_errno()
        if code not in _NOT_SUPPORTED:
            raise OSError(code, os.strerror(code))
        self.cachestat_works = False
        return None

    def _probe_by_copy(self, fd: int, position: int, size_bytes: int) -> Residency:
        if self._scratch is None:
            self._scratch = memoryview(bytearray(_SCRATCH_SIZE_BYTES))
        end = position + size_bytes
        while position < end:
            piece = self._scratch[:min(end - position, _SCRATCH_SIZE_BYTES)]
            count = self._preadv_nowait(fd, piece, position)
            if count is None:
                return Residency.UNKNOWN
            if count < 0:
                return Residency.COLD
            if count < len(piece):  # the end of the file: nothing there that could be cold
                return Residency.WARM
            position += count
        return Residency.WARM

    def _preadv_nowait(self, fd: int, view: memoryview, position: int) -> int | None:
        """Bytes read (fewer only at the end of the file); -1: some are cold; None: not supported here."""
        total = 0
        while total < len(view):
            try:
                count = os.preadv(fd, (view[total:],), position + total, os.RWF_NOWAIT)
            except BlockingIOError:
                return -1
            except OSError as error:
                if error.errno not in _NOT_SUPPORTED:
                    raise
                self.nowait_works = False
                return None
            if count == 0:
                break
            total += count
        return total


def page_count(position: int, size_bytes: int) -> int:
    """Pages that the byte range touches."""
    return (position + size_bytes - 1) // mmap.PAGESIZE - position // mmap.PAGESIZE + 1


def _file_system_type(directory: str) -> int:
    """f_type of statfs(2), which Python's os.statvfs leaves out; the first word of the structure."""
    buffer = ctypes.create_string_buffer(512)  # struct statfs is 120 bytes on 64-bit Linux
    if _libc.statfs(os.fsencode(directory), buffer) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), directory)
    return int(ctypes.c_long.from_buffer(buffer).value) & 0xFFFFFFFF
