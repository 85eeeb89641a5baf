"""The doorbell: an eventfd that counts the entries published and not yet taken.

Runs in: front end and storage; made by the supervisor for each generation of a link.
The system calls on both sides are the memory barrier between an entry and its reader, on every CPU;
therefore a consumer takes exactly as many entries as the count says, and never looks at the tail word.
"""
from __future__ import annotations

import os


class Doorbell:
    """One direction of one link. Non-blocking; poll `fileno()` for reading."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        """fd: a non-blocking eventfd, owned by this object from now on."""
        self._fd = fd

    @classmethod
    def create(cls) -> Doorbell:
        return cls(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))

    def fileno(self) -> int:
        return self._fd

    def ring(self, entry_count: int) -> None:
        """Add `entry_count`. Cannot block: the counter holds 2**64 - 2, a ring holds a few thousand."""
        os.eventfd_write(self._fd, entry_count)

    def take(self) -> int:
        """Entries published since the last call, 0 when none."""
        try:
            return os.eventfd_read(self._fd)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
