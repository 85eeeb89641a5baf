"""Slots of a storage process: who stands where, across its death, deletions and new topics of old names."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest

from storage.ipc.partition_table import PartitionTable, StorageHalf
from storage.log.partition_log import PartitionLog
from storage.process.slots import SlotMap, identity_of
from tests.storage.ipc.links import Link


@dataclass(eq=False)
class Log:
    """What a slot publishes of a log."""

    topic: str
    partition: int = 0
    log_end_offset: int = 0
    log_start_offset: int = 0
    active_base_offset: int = 0
    active_size_bytes: int = 0
    segment_list_version: int = 0
    first_unstable_offset: int = -1
    recovery_point: int = 0


def log(topic: str, end: int = 0) -> PartitionLog:
    return cast(PartitionLog, Log(topic, log_end_offset=end, active_size_bytes=end * 100))


@pytest.fixture
def table() -> PartitionTable:
    return Link().table()


def restarted(table: PartitionTable, *logs: PartitionLog) -> tuple[SlotMap, dict[bytes, tuple[int, StorageHalf]]]:
    """A successor of the process that owned the slots, and what it remembers; it has loaded these logs."""
    slots = SlotMap(table, 0)
    remembered = slots.remembered()
    for each in logs:
        found = remembered.get(identity_of(each.topic, each.partition))
        slots.assign(each, None if found is None else found[0])
    slots.forget_absent()
    return slots, remembered


def remembered_end(table: PartitionTable, topic: str) -> int | None:
    found: Any = SlotMap(table, 0).remembered().get(identity_of(topic, 0))
    return None if found is None else found[1].log_end_offset


def test_a_partition_keeps_slot_and_generation_across_a_restart(table: PartitionTable) -> None:
    first, second = log("first", 3), log("second", 5)
    slots = SlotMap(table, 0)
    slots.assign(first)
    slots.assign(second)
    again = log("second", 5)
    after, remembered = restarted(table, log("first", 3), again)
    assert after.place_of(again) == slots.place_of(second)
    assert remembered[identity_of("second", 0)][1].log_end_offset == 5


def test_a_late_entry_of_a_deleted_partition_meets_nobody(table: PartitionTable) -> None:
    old, new = log("old"), log("new")
    slots = SlotMap(table, 0)
    slots.assign(old)
    place = slots.place_of(old)
    slots.release(old)
    slots.assign(new)
    assert slots.place_of(new)[0] == place[0]
    assert slots.get(*place) is None


def test_a_topic_created_anew_does_not_inherit_the_log_end_of_its_namesake(table: PartitionTable) -> None:
    """Slot 1 is free and once was `twice`; slot 0 is the `twice` of today."""
    other, doomed = log("other"), log("twice", 1000)
    slots = SlotMap(table, 0)
    slots.assign(other)
    slots.assign(doomed)
    slots.release(doomed)
    slots.release(other)
    slots.assign(log("twice", 10))
    assert remembered_end(table, "twice") == 10


def test_a_deletion_that_was_interrupted_leaves_no_identity_behind(table: PartitionTable) -> None:
    """The directory was renamed away, then the process died before it gave the slot back."""
    slots = SlotMap(table, 0)
    slots.assign(log("deleted", 1000))
    restarted(table)
    assert remembered_end(table, "deleted") is None


def test_a_freed_slot_is_given_out_under_another_generation_after_a_restart(table: PartitionTable) -> None:
    slots = SlotMap(table, 0)
    doomed = log("doomed")
    slots.assign(doomed)
    slot, generation = slots.place_of(doomed)
    slots.release(doomed)
    fresh = log("fresh")
    after, _ = restarted(table)
    after.assign(fresh)
    assert after.place_of(fresh) == (slot, generation + 1)
