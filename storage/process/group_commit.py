"""Group commit: one fdatasync covers everything appended while the previous one ran.

What: for logs whose flush.messages is reached, holds back completions until a service thread has synced the
segment; what arrives meanwhile is covered by the next round. The same rounds flush by time and after a roll,
with nobody waiting for them.
Why a thread: fdatasync releases the interpreter lock and may take milliseconds; other partitions of the
directory go on. The thread hands its result back, the writer thread alone publishes (REVIEW item 24).
A failed sync is never retried: Linux has marked the pages clean; the directory goes offline.
Runs in: storage; state owned by the writer thread, threads only run `_sync`.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from storage.fs import OS_FILES, FileLayer
from storage.log.flush_plan import FlushPlan
from storage.log.partition_log import PartitionLog

Completion = tuple[Any, ...]


class Round(NamedTuple):
    """One ended sync. error: what the disk or the system said; then none of `completions` is on disk."""

    log: PartitionLog
    plan: FlushPlan | None
    completions: list[Completion]
    error: Exception | None


class GroupCommit:
    """One round per log at a time. `fileno()` is readable when `finished()` has something."""

    def __init__(self, pool: ThreadPoolExecutor, files: FileLayer = OS_FILES) -> None:
        self._pool = pool
        self._files = files
        self._running: dict[PartitionLog, tuple[FlushPlan | None, list[Completion]]] = {}
        self._next: dict[PartitionLog, list[Completion]] = {}
        self._done: deque[tuple[PartitionLog, Exception | None]] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        return self._wake

    @property
    def idle(self) -> bool:
        return not self._running

    def add(self, log: PartitionLog, completions: list[Completion]) -> None:
        """These appends of `log` are written; they come back from `finished` once they are on disk."""
        if log in self._running:
            self._next.setdefault(log, []).extend(completions)
        else:
            self._start(log, completions, None)

    def flush_up_to(self, log: PartitionLog, offset: int | None) -> None:
        """Sync in the background with nobody waiting (None: to the log end), unless a round is running."""
        if log not in self._running:
            self._start(log, [], offset)

    def _start(self, log: PartitionLog, completions: list[Completion], offset: int | None) -> None:
        plan = log.plan_flush(offset)
        self._running[log] = (plan, completions)
        self._pool.submit(self._sync, log, plan)

    def _sync(self, log: PartitionLog, plan: FlushPlan | None) -> None:
        """In a service thread: nothing but system calls that release the lock."""
        failure: Exception | None = None
        try:
            if plan is not None:
                plan.run(self._files)
        except Exception as error:  # noqa: BLE001 - judged by the writer thread
            failure = error
        self._done.append((log, failure))
        os.eventfd_write(self._wake, 1)

    def finished(self) -> list[Round]:
        """Every round that has ended since the last call; starts the next ones."""
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            return []
        rounds = []
        while self._done:
            log, failure = self._done.popleft()
            plan, completions = self._running.pop(log)
            if plan is not None and failure is None:
                log.finish_flush(plan)
            waiting = self._next.pop(log, None)
            if waiting and failure is None:
                self._start(log, waiting, None)
            elif waiting:
                completions = completions + waiting
            rounds.append(Round(log, plan, completions, failure))
        return rounds

    def forget(self, log: PartitionLog) -> list[Completion]:
        """The log is being deleted: its waiting completions, to be answered as the caller sees fit."""
        running = self._running.get(log)
        if running is not None:
            self._running[log] = (None, [])
        return (running[1] if running is not None else []) + self._next.pop(log, [])
