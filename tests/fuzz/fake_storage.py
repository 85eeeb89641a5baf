"""The storage side of one link, in this process: real rings and arena, a small log that really is a file.

It takes its time, answers in a shuffled order, and checks what no client may be able to break: that the
bytes of an entry do not change while storage has them, and that every entry lies inside the arena.
Runs in: the test process, as a trio task beside the front end.
"""

from __future__ import annotations

import os
import random
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import trio
import xxhash

from broker.protocol.errors import ErrorCode
from storage.ipc.arena import ArenaView
from storage.ipc.contexts import Doorbells
from storage.ipc.control import ControlSocket
from storage.ipc.entries import SubmissionKind
from storage.ipc.layout import ControlLayout
from storage.ipc.partition_table import PartitionTable
from storage.ipc.refusal import pack_refusal
from storage.ipc.region import Region
from storage.ipc.ring import RingLink, SubmissionEntry, open_storage_rings
from storage.record.batch import (
    BATCH_OVERHEAD,
    LOG_OVERHEAD,
    crc_is_valid,
    patch_offset_and_epoch,
    read_header,
)

SLOT_GENERATION = 1
DELAY_S_MAX = 0.02


@dataclass
class Log:
    """One partition: its only segment file, appended to."""

    topic: str
    partition: int
    topic_id: bytes
    slot: int
    path: Path
    end_offset: int = 0
    position: int = 0
    leader_epoch: int = -1

    def append(self, batch: memoryview) -> int:
        base_offset = self.end_offset
        patch_offset_and_epoch(batch, 0, base_offset, self.leader_epoch)
        with self.path.open("r+b") as file:
            os.pwrite(file.fileno(), batch, self.position)
        self.position += len(batch)
        self.end_offset += read_header(batch).last_offset_delta + 1
        return base_offset


class FakeStorage:
    """One directory's process. `die` and `begin` as the supervisor does it; the logs outlive both."""

    def __init__(
        self, directory: Path, layout: ControlLayout, control_region: Region, arena_region: Region,
        dialog: ControlSocket, seed: int,
    ) -> None:  # fmt: skip
        self.directory = directory
        self.logs: list[Log] = []
        self._link = RingLink(control_region, layout, 0)
        self._table = PartitionTable(control_region, layout)
        self._arena = ArenaView(arena_region)
        self._dialog = dialog
        self._random = random.Random(seed)
        self.generation = 0
        self._scope = trio.CancelScope()
        self._waiting: list[tuple[SubmissionEntry, int]] = []

    def begin(self, nursery: trio.Nursery) -> Doorbells:
        """A storage process of the next generation; returns the front end's end of its doorbells."""
        self.generation += 1
        self._link.reset(self.generation)
        ours = Doorbells.create()
        self._waiting.clear()
        self._scope = trio.CancelScope()
        nursery.start_soon(self._run, ours, self._scope)
        return Doorbells.from_fds([os.dup(fd) for fd in ours.fds()])

    def die(self) -> None:
        """What it had read is not answered any more."""
        self._scope.cancel()

    async def _run(self, doorbells: Doorbells, scope: trio.CancelScope) -> None:
        submissions, completions = open_storage_rings(
            self._link, doorbells.submissions, doorbells.completions, self.generation
        )
        with closing(doorbells), scope:
            while True:
                await trio.lowlevel.wait_readable(submissions.fileno())
                self._waiting += [(entry, self._digest(entry)) for entry in submissions.take()]
                if self._random.random() < 0.5:
                    await trio.sleep(self._random.random() * DELAY_S_MAX)
                    self._waiting += [(entry, self._digest(entry)) for entry in submissions.take()]
                for entry, digest in self._shuffled():
                    assert self._digest(entry) == digest, "a slab changed while storage had it"
                    completions.put(*self._complete(entry))
                completions.flush()

    def _digest(self, entry: SubmissionEntry) -> int:
        return xxhash.xxh3_64_intdigest(self._arena.view(entry[7], entry[8]))

    def _shuffled(self) -> list[tuple[SubmissionEntry, int]]:
        """In order within each partition, the partitions in any order."""
        taken, self._waiting = self._waiting, []
        slots = sorted({entry[3] for entry, _ in taken})
        self._random.shuffle(slots)
        return [(entry, digest) for slot in slots for entry, digest in taken if entry[3] == slot]

    # One entry

    def _complete(self, entry: SubmissionEntry) -> tuple[int, ...]:
        kind = entry[0]
        if kind == SubmissionKind.APPEND:
            return self._append(entry)
        log, result = self._command(entry)
        size = self._store(entry, b"" if result is None else msgpack.packb(result))
        return self._completion(entry, log, 0, -1, -1, size)

    def _append(self, entry: SubmissionEntry) -> tuple[int, ...]:
        log = self._log(entry)
        batch = self._arena.view(entry[7], entry[8])
        if log is None:
            return self._completion(entry, None, ErrorCode.NOT_LEADER_OR_FOLLOWER, -1, -1, 0)
        if not _is_sound(batch):
            room = len(batch)
            detail = pack_refusal("no batch of format v2", [(0, "no record")], room)
            return self._completion(entry, log, ErrorCode.CORRUPT_MESSAGE, -1, -1, self._store(entry, detail))
        base_offset = log.append(batch)
        self._publish(log)
        return self._completion(entry, log, 0, base_offset, log.end_offset - 1, 0)

    def _command(self, entry: SubmissionEntry) -> tuple[Log | None, Any]:
        if entry[0] == SubmissionKind.OPEN:
            message = msgpack.unpackb(self._arena.view(entry[7], entry[8]))
            return self._open(message["topic"], message["partition"], message["topic_id"]), {
                "checkpoint_high_watermark": 0
            }
        log = self._log(entry)
        if entry[0] == SubmissionKind.BECOME_LEADER and log is not None:
            log.leader_epoch = entry[5]
            return log, {"leader_epochs": [[entry[5], 0]]}
        return log, None

    def _open(self, topic: str, partition: int, topic_id: bytes) -> Log:
        for log in self.logs:
            if (log.topic, log.partition) == (topic, partition):
                return log
        path = self.directory / f"{topic}-{partition}" / f"{0:020d}.log"
        path.parent.mkdir()
        path.touch()
        for suffix in (".index", ".timeindex"):
            path.with_suffix(suffix).touch()
        log = Log(topic, partition, topic_id, len(self.logs), path)
        self.logs.append(log)
        self._publish(log)
        return log

    def _log(self, entry: SubmissionEntry) -> Log | None:
        slot, generation = entry[3], entry[4]
        return self.logs[slot] if slot < len(self.logs) and generation == SLOT_GENERATION else None

    def _publish(self, log: Log) -> None:
        self._table.publish_storage_half(log.slot, SLOT_GENERATION, 0, log.end_offset, 0, log.position, 0, -1, 0)

    def _store(self, entry: SubmissionEntry, result: bytes) -> int:
        """Results lie where the message or the refused batch lay."""
        room = entry[8] if entry[0] == SubmissionKind.APPEND else entry[9]
        assert len(result) <= room
        self._arena.view(entry[7], len(result))[:] = result
        return len(result)

    def _completion(
        self, entry: SubmissionEntry, log: Log | None, error: int, base: int, last: int, result_size: int
    ) -> tuple[int, ...]:
        if log is None:
            return (entry[0], 0, error, entry[3], entry[4], 0, entry[6], -1, -1, -1, -1, -1, -1, -1, 0, 0,
                    entry[7], result_size)  # fmt: skip
        return (
            entry[0], 0, error, log.slot, SLOT_GENERATION, 0, entry[6], base, last, log.end_offset, 0, -1, -1,
            0, log.position, 0, entry[7], result_size, log.leader_epoch,
        )  # fmt: skip

    # Questions about the directory

    async def answer_questions(self) -> None:
        """`list` and `stats`, until cancelled."""
        while True:
            await trio.lowlevel.wait_readable(self._dialog.fileno())
            while (received := self._dialog.receive_nowait()) is not None:
                message, _ = received
                listing = message["kind"] == "list"
                items = [
                    [log.topic, log.partition, log.topic_id, log.slot, SLOT_GENERATION, 0] if listing
                    else [log.topic, log.partition, log.position] for log in self.logs
                ]  # fmt: skip
                kind = "partitions" if listing else "sizes"
                self._dialog.send({"kind": kind, "number": message["number"], "items": items, "last": True})


def _is_sound(batch: memoryview) -> bool:
    if len(batch) < BATCH_OVERHEAD:
        return False
    header = read_header(batch)
    return (
        header.magic == 2 and header.batch_length + LOG_OVERHEAD == len(batch)
        and 0 <= header.last_offset_delta < 10**6 and crc_is_valid(batch, 0, len(batch))
    )  # fmt: skip
