"""Keeping cold reads off the loop: is a range in the page cache, and bringing it there by a worker.

What: one probe and one bounded worker pool per log directory.
Why per directory: a hung disk must not take the workers of healthy ones (REVIEW item 22).
Runs in: front end; the workers are threads that only call preadv, which releases the interpreter lock.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import trio

from broker.network.send_file import FileRange
from storage.reader.page_cache import PageCacheProbe

WORKERS_PER_DIRECTORY = 4
READ_AHEAD_BYTES = 1 << 20
RECENT_BYTES = 1 << 22
"""Bytes before the log end that were written moments ago: not worth a probe."""


class DirectoryWarmth:
    """Asks and warms; `directories` by index as in log.dirs. A directory that is gone has no probe."""

    recent_bytes = RECENT_BYTES

    def __init__(self, directories: list[str]) -> None:
        self._directories = directories
        self._probes: dict[int, PageCacheProbe] = {}
        self._limiters = [trio.CapacityLimiter(WORKERS_PER_DIRECTORY) for _ in directories]

    def probe(self, directory_index: int) -> PageCacheProbe:
        """Made at first use. Raises OSError when the directory is not there."""
        probe = self._probes.get(directory_index)
        if probe is None:
            probe = self._probes[directory_index] = PageCacheProbe(self._directories[directory_index])
        return probe

    def is_cold(self, directory_index: int, fd: int, position: int, size_bytes: int) -> bool:
        """True when the kernel says, or cannot say, that some of the range would have to come from disk."""
        return bool(self.probe(directory_index).probe_cold(fd, position, size_bytes))

    async def warm(self, part: FileRange) -> None:
        """Read the range into the page cache on a worker of its directory, then let the loop send it."""
        descriptor, position, size = part.descriptor.pin(), part.position, part.size_bytes
        try:
            await self.run_in_worker(
                part.directory_index, lambda: _read_through(descriptor.fd, position, size)
            )
        finally:
            descriptor.release()
        part.cold = False

    async def run_in_worker(self, directory_index: int, work: Callable[[], None]) -> None:
        """Run a blocking read on one of the directory's workers."""
        await trio.to_thread.run_sync(work, limiter=self._limiters[directory_index])


def _read_through(fd: int, position: int, size_bytes: int) -> None:
    """Blocking; a short read is left to sendfile, which reports it."""
    scratch = bytearray(min(size_bytes, READ_AHEAD_BYTES))
    end = position + size_bytes
    while position < end:
        read = os.preadv(fd, [scratch], position)
        if read <= 0:
            return
        position += read
