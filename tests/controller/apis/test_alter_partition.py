"""AlterPartition: Kafka's checks in Kafka's order, the state node, and who hears of it."""
from __future__ import annotations

from typing import Any

import pytest

from broker.protocol.codec import encode
from broker.protocol.errors import ErrorCode
from broker.protocol.messages import message_class
from controller import znodes
from controller.apis.alter_partition import alter_partition
from controller.cluster import RECOVERED, RECOVERING, TopicPartition
from controller.metadata_store.operations import SetData
from controller.records import BrokerShuttingDown
from tests.controller.memory_store import run
from tests.controller.world import World

E = ErrorCode
KEY = TopicPartition("t", 0)
NEWEST = 3


@pytest.fixture
def world() -> World:
    """t-0 on 1, 2 and 3, led by 2 with all in sync, leader epoch 0, partition epoch 0."""
    world = World((1, 2, 3))
    world.take_office()
    world.write_topic("t", {0: (2, 1, 3)})
    world.settle()
    world.transcript()
    return world


def propose(world: World, isr: list[int], *, version: int = NEWEST, sender: int = 2, number: int = 0,
            topic: str = "t", topic_id: bytes | None = None, leader_epoch: int = 0, partition_epoch: int = 0,
            recovery: int = RECOVERED, broker_epoch: int | None = None) -> Any:
    """The whole response; it can be encoded in the version that was asked."""
    request = message_class("AlterPartitionRequest")
    data = request.PartitionData(partition_index=number, leader_epoch=leader_epoch,
                                 partition_epoch=partition_epoch, leader_recovery_state=recovery)
    if version >= 3:
        data.new_isr_with_epochs = [request.BrokerState(broker_id=member) for member in isr]
    else:
        data.new_isr = isr
    state = world.runtime.state
    known_id = state.topics["t"].topic_id
    asked = request(
        broker_id=sender, broker_epoch=state.brokers[2].epoch if broker_epoch is None else broker_epoch,
        topics=[request.TopicData(topic_name=topic, topic_id=topic_id or known_id, partitions=[data])])
    response = run(alter_partition(world.runtime, asked, version))
    encode(response, version)
    world.settle()
    return response


def answer(response: Any) -> Any:
    assert response.error_code == E.NONE
    return response.topics[0].partitions[0]


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_a_replica_that_lags_leaves_and_everybody_is_told(world: World, version: int) -> None:
    given = answer(propose(world, [2, 1], version=version))
    assert (given.error_code, given.leader_id, given.leader_epoch, given.isr, given.partition_epoch) == (
        E.NONE, 2, 0, [2, 1], 1)
    assert world.leader_of("t") == (2, 0, (2, 1))
    assert world.transcript() == [
        "set /brokers/topics/t/partitions/0/state leader 2 epoch 0 isr 2,1 by 1",
        *(f"to {told}: UpdateMetadata brokers 1,2,3, t-0 leader 2 epoch 0/1" for told in (1, 2, 3))]


def test_and_comes_back(world: World) -> None:
    propose(world, [2])
    assert answer(propose(world, [2, 3], partition_epoch=1)).partition_epoch == 2
    assert world.leader_of("t") == (2, 0, (2, 3))


def test_a_repeated_proposal_is_answered_again_and_written_once(world: World) -> None:
    propose(world, [2, 1])
    world.transcript()
    assert answer(propose(world, [2, 1])).partition_epoch == 1
    assert not [line for line in world.transcript() if line.startswith("set")]


@pytest.mark.parametrize(("error", "proposal"), [
    (E.NOT_CONTROLLER, {"partition_epoch": 7}),
    (E.NOT_CONTROLLER, {"leader_epoch": 1}),
    (E.FENCED_LEADER_EPOCH, {"leader_epoch": -1}),
    (E.INVALID_REQUEST, {"recovery": RECOVERING}),
    (E.UNKNOWN_TOPIC_OR_PARTITION, {"number": 9}),
    (E.UNKNOWN_TOPIC_ID, {"topic_id": b"x" * 16}),
    (E.UNKNOWN_TOPIC_OR_PARTITION, {"version": 1, "topic": "absent"}),
])
def test_refusals(world: World, error: ErrorCode, proposal: dict[str, Any]) -> None:
    assert answer(propose(world, [2], **proposal)).error_code == error
    assert world.leader_of("t") == (2, 0, (2, 1, 3))


def test_only_the_leader_proposes(world: World) -> None:
    epoch = world.runtime.state.brokers[1].epoch
    assert answer(propose(world, [1], sender=1, broker_epoch=epoch)).error_code == E.INVALID_REQUEST


def test_a_partition_epoch_of_the_past(world: World) -> None:
    propose(world, [2, 1])
    assert answer(propose(world, [2, 3])).error_code == E.INVALID_UPDATE_VERSION


@pytest.mark.parametrize(("version", "error"), [(1, E.OPERATION_NOT_ATTEMPTED), (2, E.INELIGIBLE_REPLICA)])
def test_a_dead_or_stopping_broker_does_not_come_in_sync(world: World, version: int, error: ErrorCode) -> None:
    propose(world, [2])
    world.runtime.state.replay(BrokerShuttingDown(3))
    for isr in ([2, 3], [2, 9]):
        assert answer(propose(world, isr, version=version, partition_epoch=1)).error_code == error


def test_a_state_node_that_somebody_else_has_set(world: World) -> None:
    path = znodes.partition_state_path(*KEY)
    run(world.store.submit([SetData(path, world.data(path) or b"")]))
    assert answer(propose(world, [2])).error_code == E.INVALID_UPDATE_VERSION
    assert answer(propose(world, [2], partition_epoch=1)).error_code == E.NONE


def test_a_broker_that_is_not_registered_so(world: World) -> None:
    assert propose(world, [2], broker_epoch=1).error_code == E.STALE_BROKER_EPOCH
    assert propose(world, [2], sender=9).error_code == E.STALE_BROKER_EPOCH
    assert world.transcript() == []
