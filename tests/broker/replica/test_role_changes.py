"""The controller's requests against storage processes that die at the wrong moment, come back, or are full."""
from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio

from broker.metadata.cache import MetadataCache
from broker.protocol.errors import ErrorCode
from broker.replica.partition import Partition, Role
from broker.replica.role_changes import CONTROLLER_WAIT_S, NO_ROOM, RoleChanges
from broker.replica.storage_calls import StorageGoneError
from storage.ipc.entries import SubmissionKind
from tests.broker.replica.fake_storage import NO_SLOT, Directories, FakeStorage

pytestmark = pytest.mark.trio

ME = 1
TOPIC_ID = bytes(range(16))


@dataclass
class State:
    """One partition of a LeaderAndIsr request."""

    partition_index: int = 0
    leader_epoch: int = 5
    leader: int = ME
    isr: list[int] = field(default_factory=lambda: [ME])
    replicas: list[int] = field(default_factory=lambda: [ME])
    partition_epoch: int = 0
    is_new: bool = False


class Broker:
    """RoleChanges over fake directories."""

    def __init__(self) -> None:
        self.directories = Directories()
        self.metadata = MetadataCache()
        self.roles = RoleChanges(
            ME, self.directories.registry, self.directories.log_dirs, self.metadata, resolve, in_cluster=True)

    @property
    def storages(self) -> list[FakeStorage]:
        return self.directories.storages

    async def start(self, index: int) -> None:
        """A storage process (re)starts and its logs are entered, unless it dies again."""
        self.storages[index].start()
        with contextlib.suppress(StorageGoneError):
            await self.roles.enter(self.storages[index], self.storages[index].listed())

    async def lead(self, topic: str = "t", **state: Any) -> ErrorCode:
        return await self.roles.lead_or_follow(topic, TOPIC_ID, State(**state))

    def partition(self, topic: str = "t", number: int = 0) -> Partition:
        found = self.directories.registry.get(topic, number)
        assert found is not None
        return found


def resolve(overrides: dict[str, str]) -> dict[str, Any]:
    return {"max.message.bytes": 1000, "min.insync.replicas": 1} | overrides


@pytest.fixture
async def broker(autojump_clock: trio.testing.MockClock) -> Broker:
    """Both storage processes are up, nothing is hosted."""
    broker = Broker()
    for index in range(2):
        await broker.start(index)
    return broker


# A partition lies in one directory


async def test_a_new_partition_goes_to_the_emptier_directory(broker: Broker) -> None:
    broker.storages[0].put_log("other", 0)
    await broker.start(0)
    assert await broker.lead(is_new=True) is ErrorCode.NONE
    assert broker.partition().directory_index == 1
    assert broker.partition().role is Role.LEADER


async def test_a_partition_is_not_created_while_a_directory_may_still_hold_it(
        autojump_clock: trio.testing.MockClock) -> None:
    """The front end and storage 0 died together: nobody has told yet what lies in directory 0."""
    broker = Broker()
    broker.storages[0].put_log("t", 0, end_offset=7)
    await broker.start(1)

    async def come_back() -> None:
        await trio.sleep(3)
        await broker.start(0)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(come_back)
        assert await broker.lead() is ErrorCode.NONE
    assert broker.partition().directory_index == 0
    assert broker.partition().log_end_offset == 7
    assert broker.storages[1].logs == {}


async def test_a_directory_that_does_not_come_back_in_time_is_a_storage_error(
        autojump_clock: trio.testing.MockClock) -> None:
    broker = Broker()
    await broker.start(1)
    started = trio.current_time()
    assert await broker.lead(is_new=True) is ErrorCode.KAFKA_STORAGE_ERROR
    assert CONTROLLER_WAIT_S <= trio.current_time() - started < CONTROLLER_WAIT_S + 1
    assert broker.storages[1].logs == {}


async def test_with_a_failed_directory_only_new_partitions_are_created(broker: Broker) -> None:
    """As Kafka: an old one may lie in the failed directory."""
    broker.storages[0].fail("dead disk")
    assert await broker.lead("old") is ErrorCode.KAFKA_STORAGE_ERROR
    assert await broker.lead("new", is_new=True) is ErrorCode.NONE
    assert list(broker.storages[1].logs) == [("new", 0)]


async def test_a_log_that_storage_has_set_aside_is_not_created_elsewhere(broker: Broker) -> None:
    await broker.roles.enter(broker.storages[0], [["t", 0, bytes(16), NO_SLOT, 0, 0]])
    broker.storages[0].refuse[SubmissionKind.OPEN] = ErrorCode.KAFKA_STORAGE_ERROR
    assert await broker.lead() is ErrorCode.KAFKA_STORAGE_ERROR
    assert broker.partition().role is Role.OFFLINE
    assert broker.storages[1].logs == {}


async def test_a_log_created_by_a_process_that_died_before_it_could_say_so_is_found(broker: Broker) -> None:
    """Else the second attempt would go to the directory that is emptier by now."""
    broker.storages[0].held = {SubmissionKind.OPEN}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(broker.lead)
        await trio.testing.wait_all_tasks_blocked()
        broker.storages[0].put_log("t", 0)
        broker.storages[0].held = set()
        broker.directories.die(0)
        await broker.start(0)
    assert broker.partition().directory_index == 0
    assert broker.partition().role is Role.LEADER
    assert broker.storages[1].logs == {}


async def test_a_stopped_log_is_led_again_where_it_lies(broker: Broker) -> None:
    await broker.lead(is_new=True)
    assert await broker.roles.stop("t", 0, -1, delete=False) is ErrorCode.NONE
    assert broker.partition().role is Role.NONE
    assert await broker.lead(leader_epoch=5) is ErrorCode.NONE
    assert len(broker.storages[0].logs) + len(broker.storages[1].logs) == 1


# Deaths under a request


@pytest.mark.parametrize("kind", [SubmissionKind.OPEN, SubmissionKind.BECOME_LEADER])
async def test_a_death_under_leader_and_isr_is_not_told_to_the_controller(
        broker: Broker, kind: SubmissionKind) -> None:
    answers: list[ErrorCode] = []

    async def lead() -> None:
        answers.append(await broker.lead(is_new=True))

    broker.storages[0].held = {kind}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lead)
        await trio.testing.wait_all_tasks_blocked()
        broker.directories.die(0)
        broker.storages[0].held = set()
        await trio.sleep(2)
        await broker.start(0)
    assert answers == [ErrorCode.NONE]
    assert broker.partition().role is Role.LEADER


async def test_partitions_take_up_their_role_after_a_restart(broker: Broker) -> None:
    await broker.lead(is_new=True, leader_epoch=9, replicas=[ME, 2, 3])
    before = broker.partition()
    broker.directories.die(0)
    assert before.produce_error(1) is ErrorCode.KAFKA_STORAGE_ERROR
    await broker.start(0)
    after = broker.partition()
    assert after is not before
    assert (after.role, after.leader_epoch, after.isr, after.replicas) == (Role.LEADER, 9, (ME,), (ME, 2, 3))
    assert broker.storages[0].done[-1] == ("BECOME_LEADER", "t-0", 9)


async def test_a_second_death_in_the_middle_of_the_reopening_loses_no_role(broker: Broker) -> None:
    await broker.lead(is_new=True, leader_epoch=9)
    broker.directories.die(0)
    broker.storages[0].held = {SubmissionKind.BECOME_LEADER}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(broker.start, 0)
        await trio.testing.wait_all_tasks_blocked()
        broker.directories.die(0)
    broker.storages[0].held = set()
    await broker.start(0)
    assert (broker.partition().role, broker.partition().leader_epoch) == (Role.LEADER, 9)


async def test_a_reopening_does_not_take_back_a_later_epoch(broker: Broker) -> None:
    """It had remembered epoch 5 and was waiting for storage when LeaderAndIsr brought epoch 6."""
    await broker.lead(is_new=True, leader_epoch=5)
    broker.directories.die(0)
    storage = broker.storages[0]
    storage.start()
    storage.is_listed = True
    await broker.lead(leader_epoch=6)
    await broker.roles.enter(storage, storage.listed())
    assert broker.partition().leader_epoch == 6
    assert [epoch for name, _, epoch in storage.done if name == "BECOME_LEADER"] == [5, 6]


async def test_a_partition_that_is_coming_back_answers_a_retriable_error(broker: Broker) -> None:
    await broker.lead(is_new=True)
    broker.directories.die(0)
    storage = broker.storages[0]
    storage.held = {SubmissionKind.BECOME_LEADER}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(broker.start, 0)
        await trio.testing.wait_all_tasks_blocked()
        assert broker.partition().produce_error(1) is ErrorCode.KAFKA_STORAGE_ERROR
        storage.die()


async def test_a_death_under_a_deletion_is_carried_on_with(broker: Broker) -> None:
    await broker.lead(is_new=True)
    answers: list[ErrorCode] = []

    async def delete() -> None:
        answers.append(await broker.roles.stop("t", 0, -1, delete=True))

    broker.storages[0].held = {SubmissionKind.DELETE_PARTITION}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(delete)
        await trio.testing.wait_all_tasks_blocked()
        broker.directories.die(0)
        broker.storages[0].held = set()
        await broker.start(0)
    assert answers == [ErrorCode.NONE]
    assert broker.storages[0].logs == {}
    assert broker.directories.registry.get("t", 0) is None


async def test_a_deletion_that_storage_had_carried_out_before_it_died_is_done(broker: Broker) -> None:
    """The partition had been stopped first, as a controller does it."""
    await broker.lead(is_new=True)
    await broker.roles.stop("t", 0, -1, delete=False)
    broker.storages[0].logs.clear()
    broker.storages[0].die()
    await broker.start(0)
    assert await broker.roles.stop("t", 0, -1, delete=True) is ErrorCode.NONE
    assert broker.directories.registry.get("t", 0) is None
    assert broker.storages[0].logs == {}


async def test_overrides_reach_a_storage_process_that_was_away(broker: Broker) -> None:
    await broker.lead(is_new=True)
    await broker.roles.stop("t", 0, -1, delete=False)
    broker.storages[0].die()
    await broker.roles.configure_topic("t", {"max.message.bytes": 77})
    await broker.start(0)
    assert broker.partition().max_message_bytes == 77
    assert broker.storages[0].done[-1][:2] == ("CONFIGURE", "t-0")


# A full disk


async def test_a_partition_that_found_no_room_is_opened_later_and_announced(broker: Broker) -> None:
    for storage in broker.storages:
        storage.refuse[SubmissionKind.OPEN] = NO_ROOM
    assert await broker.lead(is_new=True) is ErrorCode.KAFKA_STORAGE_ERROR
    assert not await broker.roles.retry_without_room()
    for storage in broker.storages:
        storage.refuse.clear()
    assert await broker.roles.retry_without_room()
    assert not await broker.roles.retry_without_room()
    assert await broker.lead() is ErrorCode.NONE


async def test_a_deleted_partition_is_not_tried_again(broker: Broker) -> None:
    for storage in broker.storages:
        storage.refuse[SubmissionKind.OPEN] = NO_ROOM
    await broker.lead(is_new=True)
    await broker.roles.stop("t", 0, -1, delete=False)
    await broker.roles.stop("t", 0, -1, delete=True)
    for storage in broker.storages:
        storage.refuse.clear()
    assert not await broker.roles.retry_without_room()
    assert broker.directories.registry.get("t", 0) is None


# Replicas on other brokers: nothing is copied in this version, and nothing is claimed


@pytest.mark.parametrize(("leader", "isr"), [(ME, [ME, 2]), (2, [2]), (2, [ME, 2]), (-1, [2])])
async def test_a_partition_that_needs_copying_is_declined_and_nothing_is_created(
        broker: Broker, leader: int, isr: list[int]) -> None:
    assert await broker.lead(is_new=True, leader=leader, isr=isr, replicas=[ME, 2]) is ErrorCode.KAFKA_STORAGE_ERROR
    assert broker.directories.registry.get("t", 0) is None
    assert broker.storages[0].logs == broker.storages[1].logs == {}
    assert broker.roles.declined == {("t", 0)}


async def test_a_node_alone_goes_on_as_the_controller_process_says(broker: Broker) -> None:
    """Its directories were taken over from a cluster whose other brokers are dead."""
    directories = broker.directories
    broker.roles = RoleChanges(ME, directories.registry, directories.log_dirs, broker.metadata, resolve)
    assert await broker.lead(is_new=True, leader=2, isr=[2], replicas=[ME, 2]) is ErrorCode.NONE
    assert broker.partition().role is Role.FOLLOWER


async def test_to_lead_alone_needs_no_copying(broker: Broker) -> None:
    await broker.lead(is_new=True, leader=2, isr=[2], replicas=[ME, 2])
    assert await broker.lead(leader_epoch=6, isr=[ME], replicas=[ME, 2]) is ErrorCode.NONE
    assert broker.partition().role is Role.LEADER
    assert broker.roles.declined == set()


async def test_a_leader_that_gets_company_in_sync_steps_down_and_keeps_its_log(broker: Broker) -> None:
    await broker.lead(is_new=True)
    refusal = await broker.lead(leader_epoch=6, leader=2, isr=[ME, 2], replicas=[ME, 2])
    assert refusal is ErrorCode.KAFKA_STORAGE_ERROR
    assert broker.partition().role is Role.NONE
    assert broker.partition().produce_error(1) is ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert ("t", 0) in broker.storages[0].logs
    assert await broker.lead(leader_epoch=7) is ErrorCode.NONE
    assert broker.partition().role is Role.LEADER


async def test_an_old_request_for_more_replicas_does_not_depose_a_leader(broker: Broker) -> None:
    await broker.lead(is_new=True, leader_epoch=9)
    refusal = await broker.lead(leader_epoch=8, leader=2, isr=[2], replicas=[ME, 2])
    assert refusal is ErrorCode.STALE_CONTROLLER_EPOCH
    assert broker.partition().role is Role.LEADER


async def test_stopping_forgets_that_a_partition_was_declined(broker: Broker) -> None:
    await broker.lead(is_new=True, leader=2, isr=[2], replicas=[ME, 2])
    assert await broker.roles.stop("t", 0, 5, delete=True) is ErrorCode.NONE
    assert broker.roles.declined == set()
