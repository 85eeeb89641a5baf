"""Storage processes without processes: a link that answers entries from what its "directory" holds.

A directory outlives its process: `die` and `start` are a death and a restart. Entries of a kind in `held` are
not answered, so that a death can meet them; `refuse` maps a kind to the error that it is answered with.
Runs in: the test process.
"""
from __future__ import annotations

from typing import Any

import msgpack

from broker.log_dirs.log_dirs import LogDirs
from broker.log_dirs.storage_link import StorageLink, Waiter
from broker.replica.registry import PartitionRegistry
from broker.replica.role_changes import NO_SLOT, Listed
from storage import errors
from storage.ipc.arena import Arena
from storage.ipc.entries import SubmissionKind
from storage.ipc.partition_table import PartitionTable
from storage.ipc.region import Region
from tests.storage.ipc.links import Link

MIB = 1 << 20
ZERO_UUID = bytes(16)


class FakeStorage(StorageLink):
    """logs: (topic, partition) -> slot, what lies in the directory. done: entries carried out, as (kind name,
    topic-partition or slot, leader epoch)."""

    def __init__(self, index: int, directory: str, arena: Arena, table: PartitionTable) -> None:
        super().__init__(index, directory)
        self.logs: dict[tuple[str, int], int] = {}
        self.done: list[tuple[str, str, int]] = []
        self.held: set[SubmissionKind] = set()
        self.refuse: dict[SubmissionKind, int] = {}
        self._arena = arena
        self._table = table
        self._waiting: list[tuple[Waiter, int]] = []
        self._next_slot = index * 1000 + 1

    # The process

    def start(self) -> None:
        self.usable, self.is_listed, self.failed_reason = True, False, None

    def die(self) -> None:
        """Everything that was not answered is answered as the front end does it then."""
        self.usable = False
        waiting, self._waiting = self._waiting, []
        for waiter, index in waiting:
            waiter.storage_completed(index, errors.KAFKA_STORAGE_ERROR, None)

    def fail(self, why: str) -> None:
        """The directory is offline."""
        self.die()
        self.failed_reason = why

    def listed(self) -> list[Listed]:
        return [[*key, ZERO_UUID, slot, 1, 0] for key, slot in self.logs.items()]

    def put_log(self, topic: str, partition: int, end_offset: int = 0) -> int:
        """A log that lies in the directory; its slot."""
        slot = self.logs[topic, partition] = self._next_slot
        self._next_slot += 1
        self._table.publish_storage_half(slot, 1, 0, end_offset, 0, end_offset * 100, 0, -1, 0)
        return slot

    # What the front end calls

    def submit(
        self, waiter: Waiter, index: int, kind: int, slot: int, slot_generation: int, leader_epoch: int = -1,
        arena_offset: int = 0, size_bytes: int = 0, arg0: int = 0, arg1: int = 0, extra: int = 0, flags: int = 0,
    ) -> None:  # fmt: skip
        if not self.usable:
            waiter.storage_completed(index, errors.KAFKA_STORAGE_ERROR, None)
        elif SubmissionKind(kind) in self.held:
            self._waiting.append((waiter, index))
        else:
            memory = self._arena.memory[arena_offset:arena_offset + extra]
            message = msgpack.unpackb(memory[:size_bytes]) if size_bytes else None
            error, slot, result = self._carry_out(SubmissionKind(kind), slot, leader_epoch, message)
            packed = msgpack.packb(result) if result is not None else b""
            memory[:len(packed)] = packed
            waiter.storage_completed(index, error, (kind, 0, error, slot, 1, 0, 0, -1, -1, -1, 0, -1, -1, 0, 0, 0,
                                                    arena_offset, len(packed), leader_epoch, 0))

    def _carry_out(
        self, kind: SubmissionKind, slot: int, leader_epoch: int, message: Any
    ) -> tuple[int, int, dict[str, Any] | None]:
        if kind in self.refuse:
            return self.refuse[kind], slot, None
        if kind is SubmissionKind.OPEN:
            key = (message["topic"], message["partition"])
            self.done.append((kind.name, f"{key[0]}-{key[1]}", -1))
            return 0, self.logs.get(key) or self.put_log(*key), {"checkpoint_high_watermark": 0}
        names = [f"{topic}-{number}" for (topic, number), known in self.logs.items() if known == slot]
        if not names:
            return errors.UNKNOWN_TOPIC_OR_PARTITION, slot, None
        self.done.append((kind.name, names[0], leader_epoch))
        if kind is SubmissionKind.DELETE_PARTITION:
            self.logs = {key: known for key, known in self.logs.items() if known != slot}
        return 0, slot, {"leader_epochs": [[leader_epoch, 0]]}


class Directories:
    """LogDirs over fakes; `storages[i]` is the process of directory i."""

    def __init__(self, count: int = 2) -> None:
        table = Link().table()
        arena = Arena(Region.create("arena", 256 * MIB), MIB, 32 * MIB, 4 * MIB)
        self.registry = PartitionRegistry()
        paths = [f"/data/{index}" for index in range(count)]
        self.log_dirs = LogDirs(paths, self.registry, arena, table)
        self.storages = [FakeStorage(index, path, arena, table) for index, path in enumerate(paths)]
        self.log_dirs.links = list(self.storages)

    def die(self, index: int) -> None:
        """As the front end hears of it."""
        self.storages[index].die()
        for partition in self.registry.of_directory(index):
            partition.go_offline()


__all__ = ["NO_SLOT", "Directories", "FakeStorage"]
