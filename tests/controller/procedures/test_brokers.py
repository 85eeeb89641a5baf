"""Brokers come, go, bounce and change; directories fail."""
from __future__ import annotations

import json

import pytest

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from controller import znodes
from controller.cluster import Endpoint, TopicPartition
from tests.controller.memory_store import run
from tests.controller.world import World, expect

STORAGE_ERROR = int(ErrorCode.KAFKA_STORAGE_ERROR)


def leading(*broker_ids: int, topics: dict[str, dict[int, tuple[int, ...]]] | None = None,
            **properties: str) -> World:
    world = World(broker_ids, **properties)
    world.take_office()
    for topic, partitions in (topics or {}).items():
        world.write_topic(topic, partitions)
    world.settle()
    world.transcript()
    return world


def test_dead_broker_s_leaderships_move_and_it_leaves_the_in_sync_sets() -> None:
    world = leading(1, 2, 3, topics={"t": {0: (2, 1), 1: (3, 2)}})
    world.fail(2)
    world.settle()
    expect(world, """
        set /brokers/topics/t/partitions/0/state leader 1 epoch 1 isr 1 by 1
        set /brokers/topics/t/partitions/1/state leader 3 epoch 1 isr 3 by 1
        to 1: LeaderAndIsr t-0 leader 1 epoch 1/1 isr 1
        to 3: LeaderAndIsr t-1 leader 3 epoch 1/1 isr 3
        to 1: UpdateMetadata brokers 1,3, t-0 leader 1 epoch 1/1 offline 2, t-1 leader 3 epoch 1/1 offline 2
        to 3: UpdateMetadata brokers 1,3, t-0 leader 1 epoch 1/1 offline 2, t-1 leader 3 epoch 1/1 offline 2
        """)


def test_death_of_a_broker_without_replicas_is_still_announced() -> None:
    world = leading(1, 2)
    world.fail(2)
    world.settle()
    expect(world, "to 1: UpdateMetadata brokers 1")


def test_last_replica_in_sync_is_remembered_and_leads_again_when_back() -> None:
    world = leading(1, 2, topics={"t": {0: (2,)}})
    world.fail(2)
    world.settle()
    assert world.leader_of("t") == (-1, 1, (2,))
    world.register(2)
    world.settle()
    assert world.leader_of("t") == (2, 2, (2,))


def test_returning_broker_learns_who_is_alive_before_whom_to_follow() -> None:
    world = leading(1, 2, topics={"t": {0: (1, 2)}})
    world.fail(2)
    world.settle()
    world.transcript()
    world.register(2)
    world.settle()
    told = [line for line in world.transcript() if line.startswith("to 2")]
    assert told == [
        "to 2: UpdateMetadata brokers 1,2, t-0 leader 1 epoch 1/1",
        "to 2: LeaderAndIsr t-0 leader 1 epoch 1/1 isr 1",
        "to 2: UpdateMetadata brokers 1,2, t-0 leader 1 epoch 1/1"]


def test_bounced_broker_goes_and_comes_in_one_event() -> None:
    world = leading(1, topics={"t": {0: (1,)}})
    world.register(1)
    world.transcript()
    world.settle()
    expect(world, """
        set /brokers/topics/t/partitions/0/state leader -1 epoch 1 isr 1 by 1
        set /brokers/topics/t/partitions/0/state leader 1 epoch 2 isr 1 by 1
        to 1: UpdateMetadata brokers 1, t-0 leader -1 epoch 1/1
        to 1: LeaderAndIsr t-0 leader 1 epoch 2/2 isr 1
        to 1: UpdateMetadata brokers 1, t-0 leader 1 epoch 2/2
        """)


def test_requests_carry_the_epoch_of_the_bounced_broker() -> None:
    world = leading(1, topics={"t": {0: (1,)}})
    before = world.runtime.state.brokers[1].epoch
    world.register(1)
    world.settle()
    node = world.server.tree.node(znodes.broker_path(1))
    assert node is not None
    assert world.runtime.state.brokers[1].epoch == node.czxid > before


@pytest.mark.parametrize(("unclean", "leader"), [("true", (1, 3, (1,))), ("false", (-1, 3, (2,)))])
def test_unclean_election_is_the_topic_s_choice(unclean: str, leader: tuple[int, int, tuple[int, ...]]) -> None:
    world = leading(1, 2)
    world.write_topic("t", {0: (1, 2)}, configs={"unclean.leader.election.enable": unclean})
    world.settle()
    run(world.store.set_data("/brokers/topics/t/partitions/0/state", json.dumps(
        {"version": 1, "leader": 2, "leader_epoch": 1, "controller_epoch": 1, "isr": [2]}).encode()))
    world.fail(1)
    world.settle()
    world.register(1)
    world.settle()
    world.fail(2)
    world.settle()
    assert world.leader_of("t") == leader


def test_state_set_by_somebody_else_is_read_again_before_the_election() -> None:
    """A leader below inter-broker version 2.7 changes the in-sync set itself."""
    world = leading(1, 2, 3, topics={"t": {0: (1, 2, 3)}})
    run(world.store.set_data("/brokers/topics/t/partitions/0/state", json.dumps(
        {"version": 1, "leader": 1, "leader_epoch": 0, "controller_epoch": 1, "isr": [1, 3]}).encode()))
    world.fail(1)
    world.settle()
    assert world.leader_of("t") == (3, 1, (3,))


def test_changed_registration_is_announced() -> None:
    world = leading(1, 2)
    endpoint = Endpoint("PLAINTEXT", "PLAINTEXT", "moved", 9)
    run(world.broker_sessions[2].set_data(
        znodes.broker_path(2), znodes.encode_broker((endpoint,), None, 0, 5)))
    world.transcript()
    world.settle()
    expect(world, """
        to 1: UpdateMetadata brokers 1,2
        to 2: UpdateMetadata brokers 1,2
        """)
    assert world.runtime.state.brokers[2].endpoints == (endpoint,)


def test_unreadable_registration_counts_as_none() -> None:
    world = leading(1, 2)
    session = world.server.session()
    run(session.create(znodes.broker_path(3), b"{", ephemeral=True))
    run(world.broker_sessions[2].set_data(znodes.broker_path(2), b"{"))
    world.settle()
    assert set(world.runtime.state.brokers) == {1}


def test_replica_in_a_failed_directory_loses_its_leadership() -> None:
    world = leading(1, 2, topics={"t": {0: (1, 2)}})
    world.codes[ApiKey.LEADER_AND_ISR, 1, TopicPartition("t", 0)] = STORAGE_ERROR
    run(world.store.create(znodes.LOG_DIR_EVENT_NOTIFICATION + "/log_dir_event_", sequential=True,
                           data=b'{"version":1,"broker":1,"event":1}'))
    world.settle()
    assert world.leader_of("t") == (2, 1, (2,))
    assert world.children(znodes.LOG_DIR_EVENT_NOTIFICATION) == []
    assert any("offline 1" in line for line in world.transcript())


def test_replica_whose_directory_works_again_counts_as_online() -> None:
    world = leading(1, 2, topics={"t": {0: (1, 2)}})
    key = TopicPartition("t", 0)
    world.codes[ApiKey.LEADER_AND_ISR, 1, key] = STORAGE_ERROR
    world.register(1)
    world.settle()
    assert world.runtime.state.offline_directories == {1: frozenset({key})}
    world.codes.clear()
    world.register(1)
    world.settle()
    assert world.runtime.state.offline_directories == {}
    assert world.runtime.state.is_replica_online(1, key)
