"""Ring entries that carry a message and are awaited: everything a controller's request asks of storage.

What: puts the message into a slab of the reserve, submits the entry, waits for its completion, reads the
result out of the same slab.
Why two errors: what storage refuses is the answer; what died with a storage process may be asked again of its
successor, and a controller must not hear of it (REVIEW item 19).
Runs in: front end. Owner: `RoleChanges`. No state.
"""

from __future__ import annotations

from typing import Any

import msgpack
import trio

from broker.log_dirs.storage_link import StorageLink
from broker.protocol.errors import ErrorCode
from storage.ipc.arena import Arena, Slab
from storage.ipc.entries import SubmissionKind
from storage.ipc.ring import CompletionEntry

MESSAGE_SLAB_BYTES = 1 << 16
"""Room for a request and, in the same slab, its result (a leader-epoch history of 4,000 entries fits)."""

NO_ROOM_PAUSE_S = 0.01


class StorageRefusedError(Exception):
    """Storage answered with an error code."""

    def __init__(self, code: int, why: str = "") -> None:
        super().__init__(why or f"storage answered {code}")
        self.code = code


class StorageGoneError(StorageRefusedError):
    """The storage process is dead or not there; whether it carried the entry out is not known."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.KAFKA_STORAGE_ERROR, "the storage process is gone")


class _Call:
    """One entry with a message in a slab, awaited by a task."""

    __slots__ = ("arrived", "completion", "error")

    def __init__(self) -> None:
        self.arrived = trio.Event()
        self.error = 0
        self.completion: CompletionEntry | None = None

    def storage_completed(self, index: int, error: int, completion: CompletionEntry | None) -> None:
        self.error = error
        self.completion = completion
        self.arrived.set()


class StorageCalls:
    """Any number of calls at a time."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena

    async def call(
        self, link: StorageLink, kind: SubmissionKind, slot: int, slot_generation: int, leader_epoch: int,
        message: dict[str, Any] | None = None, arg0: int = 0,
    ) -> tuple[CompletionEntry, Any]:  # fmt: skip
        """(completion, result message or None). Raises StorageGoneError, else StorageRefusedError."""
        if link.failed_reason is not None:
            raise StorageRefusedError(ErrorCode.KAFKA_STORAGE_ERROR, f"{link.directory} is offline")
        slab = await self._slab()
        try:
            packed = msgpack.packb(message) if message is not None else b""
            if len(packed) > slab.view.nbytes:
                raise StorageRefusedError(ErrorCode.INVALID_CONFIG)
            slab.view[: len(packed)] = packed
            slab.note_touched(MESSAGE_SLAB_BYTES)
            waiting = _Call()
            link.submit(
                waiting, 0, int(kind), slot, slot_generation, leader_epoch, slab.offset, len(packed), arg0,
                extra=MESSAGE_SLAB_BYTES,
            )  # fmt: skip
            with trio.CancelScope(shield=True):
                await waiting.arrived.wait()
            completion = waiting.completion
            if completion is None:
                raise StorageGoneError
            if waiting.error:
                raise StorageRefusedError(waiting.error)
            return completion, _result(slab, completion)
        finally:
            slab.release()

    async def _slab(self) -> Slab:
        """The reserve share of the arena is for messages like these; it frees up as they complete."""
        while True:
            slab = self._arena.allocate(MESSAGE_SLAB_BYTES, reserve=True)
            if slab is not None:
                return slab
            await trio.sleep(NO_ROOM_PAUSE_S)


def _result(slab: Slab, completion: CompletionEntry) -> Any:
    if not completion[17]:
        return None
    start = completion[16] - slab.offset
    return msgpack.unpackb(slab.view[start : start + completion[17]])
