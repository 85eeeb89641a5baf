"""Open descriptors of segment files: bounded in number, least recently used closed first, never one in use.

Runs in: front end (one pool for all partitions), storage. Belongs to one thread.

The only place of storage/reader that opens files, and only for reading. A file is *pinned* while somebody
uses its descriptor (a sendfile that waits for a slow client may take minutes); only unpinned files count as
candidates for closing, so the bound gives way rather than a transfer.
"""
from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import MutableMapping
from typing import Final

from storage.reader.errors import ColdReadError
from storage.reader.page_cache import PageCacheProbe

# Leaves most of a common LimitNOFILE of 100,000 to connections; a partition being read needs two or three.
OPEN_FILES_MAX_DEFAULT: Final = 4096

FileKey = tuple[int, str]


class OpenFile:
    """One open file. `release` what you were given; after that its descriptor may be closed at any time.

    pages: what an index look-up keeps of the file (see `index_file`), gone when the file closes.
    """

    __slots__ = ("fd", "path", "pages", "_page_cache", "_pin_count", "_pool", "_home", "_key")

    def __init__(self, pool: FilePool, home: MutableMapping[FileKey, OpenFile], key: FileKey,
                 path: str, page_cache: PageCacheProbe | None) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.path = path
        self.pages: dict[int, bytes] = {}
        self._page_cache = page_cache
        self._pin_count = 0
        self._pool = pool
        self._home: MutableMapping[FileKey, OpenFile] | None = home
        self._key = key

    def pin(self) -> OpenFile:
        if not self._pin_count:
            self._pool._idle.pop(self, None)
        self._pin_count += 1
        return self

    def release(self) -> None:
        """One release per pin. The last one of a file that its partition has forgotten closes it."""
        if self._pin_count <= 0:
            raise RuntimeError(f"{self.path} released more often than pinned")
        self._pin_count -= 1
        if self._pin_count:
            return
        if self._home is None:
            self._pool._close(self)
        else:
            self._pool._idle[self] = None
            self._pool._close_surplus()

    def __enter__(self) -> OpenFile:
        """`with` a file that is pinned already: the end of the block is its release."""
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @property
    def is_pinned(self) -> bool:
        return self._pin_count > 0

    def size_bytes(self) -> int:
        return os.fstat(self.fd).st_size

    def read(self, size_bytes: int, position: int) -> bytes:
        """Fewer bytes only at the end of the file. ColdReadError rather than wait, if there is a probe."""
        if self._page_cache is None:
            return os.pread(self.fd, size_bytes, position)
        data = self._page_cache.pread_nowait(self.fd, size_bytes, position)
        if data is None:
            self.pin()
            raise ColdReadError(self.path, position, size_bytes,
                                lambda: self._read_and_wait(size_bytes, position), self.release)
        return data

    def _read_and_wait(self, size_bytes: int, position: int) -> None:
        """In a worker: brings the bytes into the page cache."""
        os.pread(self.fd, size_bytes, position)

    def forget(self) -> None:
        """The partition's name for it no longer means this file: close it as soon as nobody uses it."""
        self._home = None
        if not self._pin_count:
            self._pool._idle.pop(self, None)
            self._pool._close(self)


class FilePool:
    """open_count: files open now, pinned ones included."""

    def __init__(self, open_files_max: int = OPEN_FILES_MAX_DEFAULT) -> None:
        self.open_files_max = open_files_max
        self.open_count = 0
        self._idle: OrderedDict[OpenFile, None] = OrderedDict()

    def open(self, home: MutableMapping[FileKey, OpenFile], key: FileKey, path: str,
             page_cache: PageCacheProbe | None = None) -> OpenFile:
        """Open `path`, put it into `home` (the partition's files) under `key`, pinned. Raises OSError."""
        file = OpenFile(self, home, key, path, page_cache)
        self.open_count += 1
        home[key] = file
        file.pin()
        self._close_surplus()
        return file

    def _close_surplus(self) -> None:
        while self.open_count > self.open_files_max and self._idle:
            file, _ = self._idle.popitem(last=False)
            if file._home is not None:
                del file._home[file._key]
            self._close(file)

    def _close(self, file: OpenFile) -> None:
        self.open_count -= 1
        file.pages.clear()
        os.close(file.fd)
        file.fd = -1
