"""The file layer: the only place where storage opens, writes, renames or removes files.

Runs in: storage and helper processes (blocking calls; never on the front end's loop). Nobody owns state here:
descriptors belong to the caller that opened them.

One class and one protocol, so that tests can slide a layer underneath that forgets what was not fsynced.
The primitives are one system call each (retried where the kernel asks for it); the composite operations are
written with the primitives only, so that such a layer gets them for free. Nothing here swallows an OSError:
ENOSPC, EIO and a failed fsync reach the caller, who decides (a failed fsync is never retried: Linux marks the
pages clean and the second call succeeds without having written them).
"""
from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

WriteBuffer = bytes | bytearray | memoryview

# Buffers in one pwritev; Linux's UIO_MAXIOV. sysconf may answer -1 for "no fixed limit".
IOV_MAX: Final = min(1024, max(os.sysconf("SC_IOV_MAX"), 16))
# Linux writes at most 0x7ffff000 bytes in one call and reports a partial write: handled as any other.
FILE_MODE: Final = 0o644
DIRECTORY_MODE: Final = 0o755
TEMPORARY_SUFFIX: Final = ".tmp"


class DirectoryEntry(NamedTuple):
    """One name of a directory. is_directory follows symbolic links, as Kafka's File.isDirectory does."""

    name: str
    is_directory: bool


class FileStatus(NamedTuple):
    size_bytes: int
    modified_time_ms: int
    is_directory: bool


class FileLayer(Protocol):
    """What the engine needs of a file system. Every method may raise OSError."""

    def open_read(self, path: str) -> int: ...
    def open_write(self, path: str, *, create: bool = True, truncate: bool = False,
                   exclusive: bool = False) -> int: ...
    def close(self, fd: int) -> None: ...
    def pread(self, fd: int, size_bytes: int, position: int) -> bytes: ...
    def read_into(self, fd: int, buffer: bytearray | memoryview, position: int) -> int: ...
    def pwritev_all(self, fd: int, buffers: Sequence[WriteBuffer], position: int) -> int: ...
    def pwrite_all(self, fd: int, data: WriteBuffer, position: int) -> int: ...
    def truncate(self, fd: int, size_bytes: int) -> None: ...
    def fallocate(self, fd: int, position: int, size_bytes: int) -> None: ...
    def fsync(self, fd: int) -> None: ...
    def fdatasync(self, fd: int) -> None: ...
    def fsync_directory(self, path: str) -> None: ...
    def status(self, path: str) -> FileStatus | None: ...
    def size_bytes(self, fd: int) -> int: ...
    def set_modified_time(self, path: str, modified_time_ms: int) -> None: ...
    def list_directory(self, path: str) -> list[DirectoryEntry]: ...
    def make_directory(self, path: str) -> bool: ...
    def remove_directory(self, path: str) -> None: ...
    def rename(self, source: str, target: str) -> None: ...
    def unlink(self, path: str) -> bool: ...
    def read_file(self, path: str, limit_bytes: int) -> bytes: ...
    def durable_write(self, path: str, data: bytes) -> None: ...
    def durable_rename(self, source: str, target: str) -> None: ...


class OsFileLayer:
    """The real file system."""

    # -- primitives: one system call each

    def open_read(self, path: str) -> int:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def open_write(self, path: str, *, create: bool = True, truncate: bool = False,
                   exclusive: bool = False) -> int:
        """Read-write, so that the writer can also read back what it wrote."""
        flags = os.O_RDWR | os.O_CLOEXEC
        flags |= os.O_CREAT if create or exclusive else 0
        flags |= os.O_TRUNC if truncate else 0
        flags |= os.O_EXCL if exclusive else 0
        return os.open(path, flags, FILE_MODE)

    def close(self, fd: int) -> None:
        os.close(fd)

    def pread(self, fd: int, size_bytes: int, position: int) -> bytes:
        """May be shorter than asked, as the system call is: b"" at the end of the file."""
        return os.pread(fd, size_bytes, position)

    def read_into(self, fd: int, buffer: bytearray | memoryview, position: int) -> int:
        """Fills `buffer` from the file without a copy in between; fewer bytes only at the end of the file."""
        with memoryview(buffer) as view:
            total = 0
            while total < len(view):
                count = os.preadv(fd, (view[total:],), position + total)
                if count == 0:
                    break
                total += count
            return total

    def pwritev(self, fd: int, buffers: Sequence[WriteBuffer], position: int) -> int:
        return os.pwritev(fd, buffers, position)

    def truncate(self, fd: int, size_bytes: int) -> None:
        os.ftruncate(fd, size_bytes)

    def fallocate(self, fd: int, position: int, size_bytes: int) -> None:
        os.posix_fallocate(fd, position, size_bytes)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def fdatasync(self, fd: int) -> None:
        os.fdatasync(fd)

    def fsync_directory(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def status(self, path: str) -> FileStatus | None:
        """None if the name does not exist."""
        try:
            result = os.stat(path)
        except FileNotFoundError:
            return None
        return FileStatus(result.st_size, result.st_mtime_ns // 1_000_000, stat.S_ISDIR(result.st_mode))

    def size_bytes(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def set_modified_time(self, path: str, modified_time_ms: int) -> None:
        """Compaction keeps the time of the segment it replaces: retention may depend on it."""
        os.utime(path, ns=(modified_time_ms * 1_000_000, modified_time_ms * 1_000_000))

    def list_directory(self, path: str) -> list[DirectoryEntry]:
        """Names in order; a name that is not UTF-8 comes with surrogate escapes."""
        with os.scandir(path) as entries:
            return sorted(DirectoryEntry(entry.name, entry.is_dir()) for entry in entries)

    def make_directory(self, path: str) -> bool:
        """False if it was there already."""
        try:
            os.mkdir(path, DIRECTORY_MODE)
        except FileExistsError:
            if not os.path.isdir(path):
                raise
            return False
        return True

    def remove_directory(self, path: str) -> None:
        os.rmdir(path)

    def rename(self, source: str, target: str) -> None:
        """Atomic, replaces the target; durable only after fsync of the directory."""
        os.rename(source, target)

    def unlink(self, path: str) -> bool:
        """False if it was gone already."""
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
        return True

    # -- composite operations, out of the primitives

    def pwritev_all(self, fd: int, buffers: Sequence[WriteBuffer], position: int) -> int:
        """Write every byte, however few the kernel takes at a time; returns the bytes written.

        On OSError (ENOSPC included) an unknown part is in the file: the caller truncates back.
        """
        total = 0
        for start in range(0, len(buffers), IOV_MAX):
            group = buffers[start:start + IOV_MAX]
            expected = sum(map(len, group))
            written = self.pwritev(fd, group, position + total)
            if written < expected:
                self._write_rest(fd, group, position + total, written)
            total += expected
        return total

    def pwrite_all(self, fd: int, data: WriteBuffer, position: int) -> int:
        return self.pwritev_all(fd, (data,), position)

    def _write_rest(self, fd: int, group: Sequence[WriteBuffer], position: int, written: int) -> None:
        """After a partial write: the remaining bytes, buffer by buffer, until done or an error says why."""
        skip = written
        for buffer in group:
            size = len(buffer)
            if skip >= size:
                skip -= size
                position += size
                continue
            with memoryview(buffer) as view:
                while skip < size:
                    with view[skip:] as rest:
                        count = self.pwritev(fd, (rest,), position + skip)
                    if count == 0:
                        raise OSError(errno.EIO, "pwritev wrote nothing and gave no reason")
                    skip += count
            position += size
            skip = 0

    def read_file(self, path: str, limit_bytes: int) -> bytes:
        """The whole small file; OSError(EFBIG) rather than more than `limit_bytes` of memory."""
        fd = self.open_read(path)
        try:
            chunks = []
            position = 0
            while chunk := self.pread(fd, min(1 << 20, limit_bytes + 1 - position), position):
                chunks.append(chunk)
                position += len(chunk)
                if position > limit_bytes:
                    raise OSError(errno.EFBIG, f"larger than {limit_bytes} bytes", path)
            return b"".join(chunks)
        finally:
            self.close(fd)

    def durable_write(self, path: str, data: bytes) -> None:
        """Replace the file by `data` so that after any crash either the old or the new content is there.

        Temporary file, fsync, rename, fsync of the directory: Kafka's steps and Kafka's ".tmp" name. On
        OSError the old file stands and the temporary one is removed as far as that is possible.
        """
        temporary = path + TEMPORARY_SUFFIX
        try:
            self._write_and_fsync(temporary, data)
            self.rename(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):  # the first error is the one that says what is wrong
                self.unlink(temporary)
            raise
        self.fsync_directory(os.path.dirname(path) or ".")

    def _write_and_fsync(self, path: str, data: bytes) -> None:
        fd = self.open_write(path, truncate=True)
        try:
            self.pwrite_all(fd, data, 0)
            self.fsync(fd)
        finally:
            self.close(fd)

    def durable_rename(self, source: str, target: str) -> None:
        self.rename(source, target)
        target_directory = os.path.dirname(target) or "."
        source_directory = os.path.dirname(source) or "."
        self.fsync_directory(target_directory)
        if source_directory != target_directory:
            self.fsync_directory(source_directory)


OS_FILES: Final[FileLayer] = OsFileLayer()
