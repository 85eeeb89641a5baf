"""Memory shared by forked processes: an unnamed file (memfd) of fixed size, mapped on first use.

Runs in: all processes. The supervisor creates regions and keeps their descriptors; a child maps what
its part needs and closes the rest, so that the controller cannot touch the clients' records in the arena.
Size is sealed: nobody can shrink the file and make another process die of SIGBUS.
"""
from __future__ import annotations

import fcntl
import mmap
import os

from storage.ipc.layout import HEADER_WORDS, MAGIC, ControlLayout

MADV_DONTDUMP = 16
"""mmap.MADV_DONTDUMP of Linux: a core file must not hold the clients' records, nor gigabytes of holes."""


class Region:
    """A sparse memfd of `size_bytes`; `.memory` and `.words` map it on first use.

    fd: owned by this object; `close()` closes it. The mapping, once made, lives until the process ends,
    because memoryviews of it are everywhere.
    """

    def __init__(self, fd: int, size_bytes: int) -> None:
        self.fd = fd
        self.size_bytes = size_bytes
        self._mapping: mmap.mmap | None = None
        self._memory: memoryview | None = None

    @classmethod
    def create(cls, name: str, size_bytes: int) -> Region:
        """A new region of zeros. OSError when memory or descriptors are exhausted."""
        if size_bytes <= 0 or size_bytes % mmap.PAGESIZE:
            raise ValueError(f"region {name}: {size_bytes} bytes is not a positive number of pages")
        fd = os.memfd_create(f"ottla-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, size_bytes)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return cls(fd, size_bytes)

    @property
    def mapping(self) -> mmap.mmap:
        """The mapping itself, for madvise."""
        if self._mapping is None:
            self._mapping = mmap.mmap(self.fd, self.size_bytes, mmap.MAP_SHARED)
            self._mapping.madvise(MADV_DONTDUMP)
        return self._mapping

    @property
    def memory(self) -> memoryview:
        """Writable bytes of the whole region."""
        if self._memory is None:
            self._memory = memoryview(self.mapping)
        return self._memory

    @property
    def words(self) -> memoryview:
        """The same memory as 8-byte words: the only way to read or write live shared words."""
        return self.memory.cast("Q")

    def resident_bytes(self) -> int:
        """Bytes of memory that the region holds now, in whichever processes it is mapped."""
        return os.fstat(self.fd).st_blocks * 512

    def close(self) -> None:
        """Close the descriptor; an existing mapping stays."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def create_control_region(layout: ControlLayout) -> Region:
    """The control region of `layout`, with its header written."""
    region = Region.create("control", layout.size_bytes)
    words = region.words
    values = (MAGIC, layout.front_end_count, layout.storage_count, layout.size_bytes)
    for (_, position), value in zip(HEADER_WORDS, values, strict=True):
        words[position // 8] = value
    return region


def read_control_layout(region: Region) -> ControlLayout:
    """The layout that the header states; ValueError when the region is not one of ours."""
    words = region.words
    magic, front_ends, storages, size_bytes = (words[position // 8] for _, position in HEADER_WORDS)
    if magic != MAGIC:
        raise ValueError(f"control region begins with {magic:#x}, not {MAGIC:#x}")
    layout = ControlLayout(storages, front_ends)
    if layout.size_bytes != size_bytes or region.size_bytes != size_bytes:
        raise ValueError(f"control region of {region.size_bytes} bytes states {size_bytes}")
    return layout
