"""Appending a coordinator's records to a partition that this broker leads.

What: one batch per decision, through the same ring as Produce, from a slab of the arena's reserve; done when the
high watermark has passed it (or at the append, if acks say so), refused by role, storage or time.
Why a backlog: the reserve can be used up; batches then wait in order, for a later record of the same group must not
overtake an earlier one.
Runs in: front end, on its loop. Owner: the coordinator that writes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

from broker.log_dirs.log_dirs import LogDirs
from broker.protocol.errors import ErrorCode
from broker.replica.partition import Partition, Role
from broker.replica.registry import PartitionRegistry
from storage.ipc.arena import Slab
from storage.ipc.entries import SubmissionKind
from storage.ipc.ring import CompletionEntry

APPEND = int(SubmissionKind.APPEND)
ALL_IN_SYNC = -1
NO_OFFSET = -1
NO_ROOM_PAUSE_S = 0.01

Done = Callable[[ErrorCode, int], None]
"""Called once, with the outcome and the offset of the batch's first record."""


class LogWriter:
    """acks: -1, or anything else for the leader alone."""

    def __init__(
        self, topic: str, registry: PartitionRegistry, log_dirs: LogDirs, start_soon: Callable[..., None],
        acks: int, timeout_ms: int,
    ) -> None:  # fmt: skip
        self._topic = topic
        self._registry = registry
        self._log_dirs = log_dirs
        self._start_soon = start_soon
        self._acks = acks
        self._timeout_s = timeout_ms / 1000
        self._backlog: deque[tuple[int, bytes, Done | None]] = deque()

    def append(self, number: int, batch: bytes, done: Done | None) -> None:
        """`done` may be called before this returns."""
        if self._backlog:
            self._backlog.append((number, batch, done))
            return
        if not self._submit(number, batch, done):
            self._backlog.append((number, batch, done))
            self._start_soon(self._drain_backlog)

    async def _drain_backlog(self) -> None:
        """Until the reserve has taken all that waits."""
        while self._backlog:
            if self._submit(*self._backlog[0]):
                self._backlog.popleft()
            else:
                await trio.sleep(NO_ROOM_PAUSE_S)

    def _submit(self, number: int, batch: bytes, done: Done | None) -> bool:
        """False: there is no room now."""
        partition = self._registry.get(self._topic, number)
        error = ErrorCode.NOT_LEADER_OR_FOLLOWER if partition is None else partition.produce_error(self._acks)
        if partition is None or error:
            if done is not None:
                done(error, NO_OFFSET)
            return True
        slab = self._log_dirs.arena.allocate(len(batch), reserve=True)
        if slab is None:
            return False
        slab.view[: len(batch)] = batch
        slab.note_touched(len(batch))
        waiting = _Appending(self, partition, slab, done)
        link = self._log_dirs.links[partition.directory_index]
        link.submit(
            waiting, 0, APPEND, partition.slot, partition.slot_generation, partition.leader_epoch,
            slab.offset, len(batch),
        )  # fmt: skip
        link.flush_if_idle()
        return True

    def wait_for_replicas(self, appending: _Appending) -> None:
        self._start_soon(appending.expire_after, self._timeout_s)

    @property
    def waits_for_replicas(self) -> bool:
        return self._acks == ALL_IN_SYNC


class _Appending:
    """One batch between submission and outcome."""

    __slots__ = ("_base_offset", "_done", "_finished", "_last_offset", "_partition", "_slab", "_writer")

    def __init__(self, writer: LogWriter, partition: Partition, slab: Slab, done: Done | None) -> None:
        self._writer = writer
        self._partition = partition
        self._slab = slab
        self._done = done
        self._base_offset = self._last_offset = NO_OFFSET
        self._finished = trio.Event()

    def storage_completed(self, index: int, error: int, completion: CompletionEntry | None) -> None:
        self._slab.release()
        if completion is None:
            self._finish(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        elif error:
            self._finish(ErrorCode(error))
        else:
            self._base_offset, self._last_offset = completion[7], completion[8]
            if not self._writer.waits_for_replicas or self._is_replicated():
                self._finish(ErrorCode.NONE)
            else:
                self._partition.watchers.add(self)
                self._writer.wait_for_replicas(self)

    def _is_replicated(self) -> bool:
        return self._partition.high_watermark > self._last_offset

    def partition_changed(self, partition: Partition) -> None:
        if self._is_replicated():
            self._finish(ErrorCode.NONE)
        elif partition.role is not Role.LEADER:
            self._finish(ErrorCode.NOT_LEADER_OR_FOLLOWER)

    async def expire_after(self, timeout_s: float) -> None:
        with trio.move_on_after(timeout_s):
            await self._finished.wait()
        self._finish(ErrorCode.REQUEST_TIMED_OUT)

    def _finish(self, error: ErrorCode) -> None:
        if self._finished.is_set():
            return
        self._finished.set()
        self._partition.watchers.discard(self)
        if self._done is not None:
            self._done(error, self._base_offset)
