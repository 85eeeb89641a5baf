"""Which partition stands in which slot of the shared table, in this storage process and across its death.

What: gives out slots of this process's range, keeps slot generations (a deleted and recreated partition
never meets late entries of its predecessor), publishes the storage halves, and finds again, after a restart,
the slot that a partition had, with the log end it had published.
Why identities: a slot has no name in it; a digest of "topic-partition" beside the table says whose it is.
Runs in: storage. Owner: the storage process; only its writer thread calls.
"""

from __future__ import annotations

from collections.abc import Iterator

import xxhash

from storage.ipc.layout import SLOTS_PER_STORAGE
from storage.ipc.partition_table import PartitionTable, StorageHalf
from storage.log.partition_log import PartitionLog

GENERATION_MASK = 0xFFFF_FFFF
NOBODY = bytes(16)
"""Identity of a slot whose partition is gone: a stale one would lend its log end to the next of that name."""


class SlotsExhaustedError(Exception):
    """More partitions in one directory than the table has slots."""


def identity_of(topic: str, partition: int) -> bytes:
    """16 bytes that stand for the partition; xxh3_128, so that names cannot be made to collide by chance."""
    return xxhash.xxh3_128_digest(f"{topic}-{partition}".encode())


class SlotMap:
    """Slots of storage process `index`. `logs[slot - first]` is the partition in it, None when free."""

    def __init__(
        self, table: PartitionTable, index: int, quarantined: frozenset[tuple[int, int]] = frozenset()
    ) -> None:
        """quarantined: (slot, slot generation) that killed two processes; their logs are never handed out."""
        self._table = table
        self._quarantined = quarantined
        self.first = index * SLOTS_PER_STORAGE
        self.logs: list[PartitionLog | None] = []
        self._generations: list[int] = []
        self._slots: dict[PartitionLog, int] = {}
        self._free: list[int] = []

    # Across a restart of this process

    def remembered(self) -> dict[bytes, tuple[int, StorageHalf]]:
        """identity -> (slot, what its last owner published); called once, before any slot is given out."""
        found: dict[bytes, tuple[int, StorageHalf]] = {}
        for slot in self._table.used_slots(self.first, SLOTS_PER_STORAGE):
            identity = self._table.read_identity(slot)
            half = self._table.read_storage_half(slot)
            self._reserve(slot, 0 if half is None else half.slot_generation)
            if (identity is not None and identity[1] != NOBODY and half is not None
                    and identity[0] == half.slot_generation):
                found[identity[1]] = (slot, half)
        return found

    def _reserve(self, slot: int, generation: int) -> None:
        while len(self.logs) <= slot - self.first:
            self._free.append(self.first + len(self.logs))
            self.logs.append(None)
            self._generations.append(0)
        self._generations[slot - self.first] = generation

    def forget_absent(self) -> None:
        """After the logs that are there have their slots again: what else was remembered is gone."""
        for slot in self._free:
            self._clear_identity(slot)

    # Giving out

    def assign(self, log: PartitionLog, remembered_slot: int | None = None) -> int:
        """A slot for an opened log: the one it had before a restart (same generation), else a fresh one."""
        if remembered_slot is not None:
            self._free.remove(remembered_slot)
            slot = remembered_slot
        else:
            slot = self._fresh_slot()
            self._generations[slot - self.first] = (self._generations[slot - self.first] + 1) & GENERATION_MASK
            self._table.publish_identity(
                slot, self._generations[slot - self.first], identity_of(log.topic, log.partition)
            )
        self.logs[slot - self.first] = log
        self._slots[log] = slot
        self.publish(log)
        return slot

    def _fresh_slot(self) -> int:
        if self._free:
            return self._free.pop()
        if len(self.logs) >= SLOTS_PER_STORAGE:
            raise SlotsExhaustedError(f"{SLOTS_PER_STORAGE} partitions in one log directory")
        self.logs.append(None)
        self._generations.append(0)
        return self.first + len(self.logs) - 1

    def release(self, log: PartitionLog) -> None:
        """The partition is deleted; its slot may be given out again, under another generation."""
        slot = self._slots.pop(log)
        self.logs[slot - self.first] = None
        self._clear_identity(slot)
        self._free.append(slot)

    def _clear_identity(self, slot: int) -> None:
        self._table.publish_identity(slot, self._generations[slot - self.first], NOBODY)

    # Looking up

    def get(self, slot: int, slot_generation: int) -> PartitionLog | None:
        """The log in the slot, None when the generation is another one."""
        index = slot - self.first
        if not 0 <= index < len(self.logs) or self._generations[index] != slot_generation:
            return None
        if self._quarantined and (slot, slot_generation) in self._quarantined:
            return None
        return self.logs[index]

    def is_quarantined(self, log: PartitionLog) -> bool:
        return self.place_of(log) in self._quarantined

    def place_of(self, log: PartitionLog) -> tuple[int, int]:
        """(slot, slot generation)."""
        slot = self._slots[log]
        return slot, self._generations[slot - self.first]

    def __iter__(self) -> Iterator[PartitionLog]:
        return iter(tuple(self._slots))

    def publish(self, log: PartitionLog) -> None:
        """What the log's attributes say now becomes the newest copy of its storage half."""
        slot = self._slots[log]
        self._table.publish_storage_half(
            slot, self._generations[slot - self.first], log.log_start_offset, log.log_end_offset,
            log.active_base_offset, log.active_size_bytes, log.segment_list_version,
            log.first_unstable_offset, log.recovery_point,
        )  # fmt: skip
