"""One file of a segment that only ever grows at its end, or is cut back to a known length.

Runs in: storage (writer thread). Owned by its segment.

The descriptor is opened on first use and may be closed again at any time (`close`): ten thousand partitions
have more files than a process has descriptors. `size_bytes` is the length that counts; after a failed write
more bytes may be in the file (`torn`), and `cut` takes them away.
"""
from __future__ import annotations

from collections.abc import Sequence

from storage.fs import FileLayer

WriteBuffer = bytes | bytearray | memoryview


class AppendFile:
    """Attributes: path, size_bytes (bytes that count), fd (-1 while closed), exists (on disk), torn."""

    __slots__ = ("path", "size_bytes", "fd", "exists", "torn", "files")

    def __init__(self, path: str, size_bytes: int, files: FileLayer, *, exists: bool) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self.fd = -1
        self.exists = exists
        self.torn = False
        self.files = files

    @classmethod
    def at(cls, path: str, files: FileLayer) -> AppendFile:
        """The file as it is on disk, or as it would begin."""
        status = files.status(path)
        return cls(path, 0 if status is None else status.size_bytes, files, exists=status is not None)

    def open(self) -> int:
        """The descriptor, creating the file if it does not exist."""
        if self.fd < 0:
            self.fd = self.files.open_write(self.path)
            self.exists = True
        return self.fd

    def append(self, buffers: Sequence[WriteBuffer]) -> int:
        """Write at the end; returns the bytes written. On OSError size_bytes stands: `cut` to it."""
        fd = self.fd if self.fd >= 0 else self.open()
        self.torn = True
        written = self.files.pwritev_all(fd, buffers, self.size_bytes)
        self.size_bytes += written
        self.torn = False
        return written

    def read(self, size_bytes: int, position: int) -> bytes:
        """Up to size_bytes at position, short only at the end of the file."""
        chunks = []
        fd = self.open()
        while size_bytes > 0:
            chunk = self.files.pread(fd, size_bytes, position)
            if not chunk:
                break
            chunks.append(chunk)
            position += len(chunk)
            size_bytes -= len(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def cut(self, size_bytes: int) -> None:
        """Make the file this long, if it is longer or may be."""
        if self.torn or size_bytes != self.size_bytes:
            self.files.truncate(self.open(), size_bytes)
            self.torn = False
        self.size_bytes = size_bytes

    def close(self) -> None:
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            self.files.close(fd)

    def remove(self) -> None:
        """Now, if there is such a file; the next append makes it anew."""
        self.close()
        if self.exists:
            self.files.unlink(self.path)
        self.exists = self.torn = False
        self.size_bytes = 0
