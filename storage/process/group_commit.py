"""Group commit: one fdatasync covers everything appended while the previous one ran.

What: for logs with flush.messages or flush.ms due, holds back completions until a service thread has synced
the segment; what arrives meanwhile is covered by the next round.
Why a thread: fdatasync releases the interpreter lock and may take milliseconds; other partitions of the
directory go on. The thread hands its result back, the writer thread alone publishes (REVIEW item 24).
A failed sync is never retried: Linux has marked the pages clean; the directory goes offline.
Runs in: storage; state owned by the writer thread, threads only run `_sync`.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from storage.log.partition_log import PartitionLog

Completion = tuple[Any, ...]


class GroupCommit:
    """One round per log at a time. `fileno()` is readable when `finished()` has something."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._running: dict[PartitionLog, tuple[int, list[Completion]]] = {}
        self._next: dict[PartitionLog, list[Completion]] = {}
        self._done: deque[tuple[PartitionLog, OSError | None]] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        return self._wake

    @property
    def idle(self) -> bool:
        return not self._running

    def add(self, log: PartitionLog, completions: list[Completion]) -> None:
        """These appends of `log` are written; publish them once they are on disk."""
        if log in self._running:
            self._next.setdefault(log, []).extend(completions)
        else:
            self._start(log, completions)

    def _start(self, log: PartitionLog, completions: list[Completion]) -> None:
        self._running[log] = (log.log_end_offset, completions)
        self._pool.submit(self._sync, log, log.flush_handles())

    def _sync(self, log: PartitionLog, handles: list[Callable[[], None]]) -> None:
        """In a service thread: nothing but system calls that release the lock."""
        failure: OSError | None = None
        try:
            for sync in handles:
                sync()
        except OSError as error:
            failure = error
        self._done.append((log, failure))
        os.eventfd_write(self._wake, 1)

    def finished(self) -> list[tuple[PartitionLog, int, list[Completion], OSError | None]]:
        """(log, offset up to which it is on disk, its completions, error) of every round that has ended."""
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            return []
        rounds = []
        while self._done:
            log, failure = self._done.popleft()
            end, completions = self._running.pop(log)
            rounds.append((log, end, completions, failure))
            waiting = self._next.pop(log, None)
            if waiting and failure is None:
                self._start(log, waiting)
            elif waiting:
                rounds.append((log, end, waiting, failure))
        return rounds
