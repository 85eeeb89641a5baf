"""ControlledShutdown: leaderships go elsewhere, replicas leave the in-sync sets, the rest is named."""
from __future__ import annotations

import pytest

from broker.protocol.codec import encode
from broker.protocol.errors import ErrorCode
from broker.protocol.messages import message_class
from controller.apis.controlled_shutdown import controlled_shutdown
from tests.controller.memory_store import run
from tests.controller.world import World

E = ErrorCode


@pytest.fixture
def world() -> World:
    world = World((1, 2, 3))
    world.take_office()
    return world


def shut_down(world: World, broker_id: int, epoch: int | None = None) -> tuple[int, list[tuple[str, int]]]:
    known = world.runtime.state.brokers.get(broker_id)
    if epoch is None:
        epoch = -1 if known is None else known.epoch
    request = message_class("ControlledShutdownRequest")(broker_id=broker_id, broker_epoch=epoch)
    response = run(controlled_shutdown(world.runtime, request))
    for version in range(4):
        encode(response, version)
    world.settle()
    return response.error_code, [(each.topic_name, each.partition_index) for each in response.remaining_partitions]


def create(world: World, topic: str, *replicas: int) -> None:
    world.write_topic(topic, {0: replicas})
    world.settle()
    world.transcript()


def test_a_leadership_goes_to_the_next_in_sync(world: World) -> None:
    create(world, "t", 2, 3)
    assert shut_down(world, 2) == (E.NONE, [])
    assert world.leader_of("t") == (3, 1, (3,))
    assert world.transcript()[:3] == [
        "set /brokers/topics/t/partitions/0/state leader 3 epoch 1 isr 3 by 1",
        "to 2: LeaderAndIsr t-0 leader 3 epoch 1/1 isr 3",
        "to 3: LeaderAndIsr t-0 leader 3 epoch 1/1 isr 3"]


def test_where_it_follows_it_is_stopped_and_leaves_the_in_sync_set(world: World) -> None:
    create(world, "t", 2, 3)
    assert shut_down(world, 3) == (E.NONE, [])
    assert world.leader_of("t") == (2, 1, (2,))
    lines = world.transcript()
    assert "to 3: StopReplica t-0 epoch 0 keep" in lines
    assert "to 2: LeaderAndIsr t-0 leader 2 epoch 1/1 isr 2" in lines


def test_a_single_replica_stays_and_is_not_named(world: World) -> None:
    create(world, "t", 2)
    assert shut_down(world, 2) == (E.NONE, [])
    assert world.leader_of("t") == (2, 0, (2,))
    assert world.transcript() == []


def test_what_nobody_else_can_lead_is_named(world: World) -> None:
    create(world, "t", 2, 3)
    assert shut_down(world, 3) == (E.NONE, [])
    assert shut_down(world, 2) == (E.NONE, [("t", 0)])
    assert world.leader_of("t") == (2, 1, (2,))


def test_it_is_not_elected_again_until_it_registers_anew(world: World) -> None:
    create(world, "t", 2, 3)
    shut_down(world, 2)
    world.fail(3)
    world.settle()
    assert world.leader_of("t") == (-1, 2, (3,))
    assert 2 in world.runtime.state.shutting_down
    world.register(2)
    world.settle()
    assert world.runtime.state.shutting_down == set()


def test_a_broker_that_has_gone_is_not_shutting_down(world: World) -> None:
    shut_down(world, 2)
    world.fail(2)
    world.settle()
    assert world.runtime.state.shutting_down == set()


def test_an_old_epoch_is_refused_and_no_epoch_is_taken(world: World) -> None:
    assert shut_down(world, 2, epoch=1)[0] == E.STALE_BROKER_EPOCH
    assert world.runtime.state.shutting_down == set()
    assert shut_down(world, 2, epoch=-1)[0] == E.NONE


def test_an_unknown_broker(world: World) -> None:
    assert shut_down(world, 9)[0] == E.BROKER_NOT_AVAILABLE
