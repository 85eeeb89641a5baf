"""Slots: two halves, each kept twice; torn copies, wrapped sequences, and a kill between any two steps."""
from __future__ import annotations

import pytest

from storage.ipc import debug_hook
from storage.ipc.layout import COPY_SIZE_BYTES, HALF_SIZE_BYTES
from storage.ipc.partition_table import ROLE_LEADER, FrontEndHalf, PartitionTable, StorageHalf
from tests.storage.ipc.links import Link
from tests.storage.ipc.processes import Forked, kill_at_step

STEPS_OF_A_PUBLICATION = 9


def storage_half(number: int) -> StorageHalf:
    return StorageHalf(number, number + 1, number + 2, number + 3, number + 4, number + 5, -number, number + 7)


def front_end_half(number: int) -> FrontEndHalf:
    return FrontEndHalf(number, ROLE_LEADER, number, number * 5)


def test_what_is_published_is_read() -> None:
    table = Link().table()
    table.publish_storage_half(3, *storage_half(1))
    table.publish_front_end_half(3, *front_end_half(2))
    assert table.read_storage_half(3) == storage_half(1)
    assert table.read_front_end_half(3) == front_end_half(2)


def test_extreme_values_survive() -> None:
    table = Link().table()
    extreme = StorageHalf(2**32 - 1, -(2**63), 2**63 - 1, -1, 2**32 - 1, 2**32 - 1, -1, 0)
    table.publish_storage_half(0, *extreme)
    assert table.read_storage_half(0) == extreme


def test_a_slot_never_published_is_none() -> None:
    table = Link().table()
    assert table.read_storage_half(7) is None
    assert table.read_front_end_half(7) is None


@pytest.mark.parametrize("slot", [-1, 65536])
def test_a_slot_outside_the_table_is_refused(slot: int) -> None:
    table = Link().table()
    with pytest.raises(ValueError, match=f"slot {slot}, the table has 65536"):
        table.read_storage_half(slot)


def test_slots_and_halves_do_not_touch_each_other() -> None:
    table = Link().table()
    for slot in range(8):
        table.publish_storage_half(slot, *storage_half(slot))
        table.publish_front_end_half(slot, *front_end_half(slot))
    for slot in range(8):
        assert table.read_storage_half(slot) == storage_half(slot)
        assert table.read_front_end_half(slot) == front_end_half(slot)


def test_a_new_process_goes_on_where_the_dead_one_was() -> None:
    link = Link()
    for number in range(5):
        table = link.table()
        table.publish_storage_half(0, *storage_half(number))
        assert link.table().read_storage_half(0) == storage_half(number)


@pytest.mark.parametrize("half", ["storage", "front end"])
@pytest.mark.parametrize("word", range(8))
def test_a_spoilt_newest_copy_falls_back_to_the_one_before(half: str, word: int) -> None:
    link = Link()
    table = link.table()
    for number in range(2):
        table.publish_storage_half(0, *storage_half(number))
        table.publish_front_end_half(0, *front_end_half(number))
    newest_copy = link.layout.tables_position + COPY_SIZE_BYTES + (HALF_SIZE_BYTES if half == "front end" else 0)
    link.region.words[newest_copy // 8 + word] ^= 1 << 17
    read = table.read_storage_half(0) if half == "storage" else table.read_front_end_half(0)
    assert read == (storage_half(0) if half == "storage" else front_end_half(0))


def test_two_spoilt_copies_are_none() -> None:
    link = Link()
    table = link.table()
    for number in range(2):
        table.publish_storage_half(0, *storage_half(number))
    for copy in range(2):
        link.region.memory[link.layout.tables_position + copy * COPY_SIZE_BYTES] ^= 1
    assert table.read_storage_half(0) is None


def test_the_sequence_wraps() -> None:
    link = Link()
    table = link.table()
    table._sequences[0] = 2**32 - 3
    for number in range(6):
        table.publish_storage_half(0, *storage_half(number))
        assert link.table().read_storage_half(0) == storage_half(number)
    link.table().publish_storage_half(0, *storage_half(9))
    assert table.read_storage_half(0) == storage_half(9)


def publish_until_killed(link: Link, step: int, half: str) -> None:
    """In a child: one publication, ended by SIGKILL at `step`."""
    table = link.table()
    debug_hook.hook = kill_at_step(step)
    if half == "storage":
        table.publish_storage_half(0, *storage_half(1))
    else:
        table.publish_front_end_half(0, *front_end_half(1))


@pytest.mark.parametrize("half", ["storage", "front end"])
@pytest.mark.parametrize("published_before", [0, 1, 2])
@pytest.mark.parametrize("step", range(STEPS_OF_A_PUBLICATION))
def test_a_kill_between_any_two_stores_costs_nothing(half: str, published_before: int, step: int) -> None:
    link = Link()
    table = link.table()
    for _ in range(published_before):
        table.publish_storage_half(0, *storage_half(0))
        table.publish_front_end_half(0, *front_end_half(0))
    assert Forked(lambda: publish_until_killed(link, step, half)).wait() == -9
    heir = link.table()
    whole = step == STEPS_OF_A_PUBLICATION - 1
    number = 1 if whole else 0 if published_before else None
    assert read(heir, half) == expected(half, number)
    assert publish_next(heir, half) == expected(half, 2)


def read(table: PartitionTable, half: str) -> object:
    return table.read_storage_half(0) if half == "storage" else table.read_front_end_half(0)


def expected(half: str, number: int | None) -> object:
    if number is None:
        return None
    return storage_half(number) if half == "storage" else front_end_half(number)


def publish_next(table: PartitionTable, half: str) -> object:
    """The heir's own publication lands on the torn copy, and is read."""
    if half == "storage":
        table.publish_storage_half(0, *storage_half(2))
    else:
        table.publish_front_end_half(0, *front_end_half(2))
    return read(table, half)


def test_a_kill_after_the_last_step_is_too_late_to_matter() -> None:
    link = Link()
    assert Forked(lambda: publish_until_killed(link, STEPS_OF_A_PUBLICATION, "storage")).wait() == 0
    assert link.table().read_storage_half(0) == storage_half(1)


# Identities: what slot a partition had, kept once, for the next storage process


def test_an_identity_is_read_as_published() -> None:
    table = Link().table()
    assert table.read_identity(4) is None
    table.publish_identity(4, 7, b"0123456789abcdef")
    assert table.read_identity(4) == (7, b"0123456789abcdef")
    assert table.read_identity(3) is None
    assert table.read_identity(5) is None


def test_slots_ever_given_out_are_found_up_to_the_first_gap() -> None:
    table = Link().table()
    for slot in (10, 11, 13):
        table.publish_identity(slot, 1, bytes([slot] * 16))
    assert table.used_slots(10, 5) == [10, 11]


@pytest.mark.parametrize("step", range(4))
def test_a_kill_while_a_slot_is_given_out_leaves_it_to_nobody_or_as_it_was(step: int) -> None:
    link = Link()
    link.table().publish_identity(0, 1, b"a" * 16)

    def give_out_again() -> None:
        table = link.table()
        debug_hook.hook = kill_at_step(step)
        table.publish_identity(0, 2, b"b" * 16)

    assert Forked(give_out_again).wait() == -9
    assert link.table().read_identity(0) == ((1, b"a" * 16) if step == 0 else None)
    assert link.table().used_slots(0, 2) == [0]
