"""Topic deletion: replicas first, then the nodes; halted while a broker is away."""
from __future__ import annotations

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from controller import znodes
from controller.cluster import TopicPartition
from controller.metadata_store.operations import Create
from tests.controller.memory_store import run
from tests.controller.world import World, expect


def leading(*broker_ids: int, topics: dict[str, dict[int, tuple[int, ...]]], **properties: str) -> World:
    world = World(broker_ids, **properties)
    world.take_office()
    for topic, partitions in topics.items():
        world.write_topic(topic, partitions, configs={})
    world.settle()
    world.transcript()
    return world


def is_gone(world: World, topic: str) -> bool:
    paths = (znodes.topic_path(topic), znodes.config_path("topics", topic), znodes.delete_topic_path(topic))
    return not any(map(world.exists, paths)) and topic not in world.runtime.state.topics


def test_deletion_from_the_mark_to_the_last_node() -> None:
    world = leading(1, 2, topics={"t": {0: (1, 2)}})
    world.mark_for_deletion("t")
    world.transcript()
    world.settle()
    expect(world, """
        to 1: UpdateMetadata brokers 1,2, t-0 leader -2 epoch 0/0
        to 2: UpdateMetadata brokers 1,2, t-0 leader -2 epoch 0/0
        to 1: StopReplica t-0 epoch -2 keep
        to 2: StopReplica t-0 epoch -2 keep
        to 1: StopReplica t-0 epoch -2 delete
        to 2: StopReplica t-0 epoch -2 delete
        delete /brokers/topics/t/partitions/0/state
        delete /brokers/topics/t/partitions/0
        delete /brokers/topics/t/partitions
        delete /brokers/topics/t
        delete /config/topics/t
        delete /admin/delete_topics/t
        """)
    assert is_gone(world, "t")


def test_nodes_stay_until_every_broker_has_answered() -> None:
    world = leading(1, 2, topics={"t": {0: (1, 2)}})
    world.silent.add(2)
    world.mark_for_deletion("t")
    world.settle()
    assert world.exists("/brokers/topics/t")
    world.silent.clear()
    world.settle()
    assert is_gone(world, "t")


def test_request_to_delete_an_unknown_topic_is_dropped() -> None:
    world = leading(1, topics={})
    world.mark_for_deletion("none")
    world.settle()
    assert world.children(znodes.DELETE_TOPICS) == []


def test_requests_are_dropped_where_deletion_is_disabled() -> None:
    world = leading(1, topics={"t": {0: (1,)}}, delete_topic_enable="false")
    world.mark_for_deletion("t")
    world.settle()
    assert world.children(znodes.DELETE_TOPICS) == []
    assert world.exists("/brokers/topics/t")


def test_deletion_waits_for_a_dead_broker_and_others_go_on() -> None:
    world = leading(1, 2, topics={"t": {0: (1, 2)}, "u": {0: (1,)}})
    world.fail(2)
    world.settle()
    for topic in ("t", "u"):
        world.mark_for_deletion(topic)
    world.settle()
    assert is_gone(world, "u")
    assert world.runtime.state.topics_ineligible_for_deletion == {"t"}
    world.register(2)
    world.settle()
    assert is_gone(world, "t")


def test_broker_that_dies_during_the_deletion_is_waited_for() -> None:
    world = leading(1, 2, topics={"t": {0: (1, 2)}})
    world.silent.add(2)
    world.mark_for_deletion("t")
    world.settle()
    world.channels.close(2)
    world.fail(2)
    world.settle()
    assert world.exists("/brokers/topics/t")
    world.silent.clear()
    world.register(2)
    world.settle()
    assert is_gone(world, "t")


def test_refusing_broker_halts_the_deletion_until_it_comes_back() -> None:
    world = leading(1, topics={"t": {0: (1,)}})
    world.codes[ApiKey.STOP_REPLICA, 1, TopicPartition("t", 0)] = int(ErrorCode.KAFKA_STORAGE_ERROR)
    world.mark_for_deletion("t")
    world.settle()
    assert world.runtime.state.topics_ineligible_for_deletion == {"t"}
    world.codes.clear()
    world.register(1)
    world.settle()
    assert is_gone(world, "t")


def test_waiting_answers_hear_of_completed_and_of_halted_deletions() -> None:
    world = leading(1, 2, topics={"t": {0: (1, 2)}, "u": {0: (1,)}})
    went: list[str] = []
    world.runtime.on_topics_went = went.extend
    world.fail(2)
    world.settle()
    world.silent.add(1)
    for topic in ("t", "u"):
        world.mark_for_deletion(topic)
    world.settle()
    assert went == []
    world.silent.clear()
    world.settle()
    assert sorted(went) == ["t", "u"]


def test_partitions_added_while_the_topic_goes_are_taken_back() -> None:
    world = leading(1, topics={"t": {0: (1,)}})
    world.silent.add(1)
    world.mark_for_deletion("t")
    world.settle()
    world.write_topic("t", {0: (1,), 1: (1,)})
    world.settle()
    data = world.data("/brokers/topics/t")
    assert set(znodes.decode_topic("t", data).partitions) == {0}
    world.silent.clear()
    world.settle()
    assert is_gone(world, "t")


def test_nodes_that_others_left_under_the_topic_go_too() -> None:
    world = leading(1, topics={"t": {0: (1,)}})
    run(world.store.submit([Create("/brokers/topics/t/partitions/0/state/odd"), Create("/brokers/topics/t/odd")]))
    world.mark_for_deletion("t")
    world.settle()
    assert is_gone(world, "t")


def test_deleted_topic_can_be_created_again_with_another_id() -> None:
    world = leading(1, topics={"t": {0: (1,)}})
    before = world.runtime.state.topics["t"].topic_id
    world.mark_for_deletion("t")
    world.settle()
    world.write_topic("t", {0: (1,)})
    world.settle()
    assert world.runtime.state.topics["t"].topic_id != before
    assert world.leader_of("t") == (1, 0, (1,))


def test_new_controller_goes_on_where_the_old_one_stopped() -> None:
    world = leading(1, topics={"t": {0: (1,)}})
    world.silent.add(1)
    world.mark_for_deletion("t")
    world.settle()

    successor = World((), tree=world.server.tree)
    run(successor.store.delete(znodes.CONTROLLER))
    successor.take_office()
    assert is_gone(successor, "t")


def test_new_controller_does_not_delete_while_a_broker_is_away() -> None:
    world = leading(1, 2, topics={"t": {0: (1, 2)}})
    world.fail(2)
    world.mark_for_deletion("t")
    successor = World((), tree=world.server.tree)
    run(successor.store.delete(znodes.CONTROLLER))
    successor.take_office()
    assert successor.runtime.state.topics_ineligible_for_deletion == {"t"}
    successor.register(2)
    successor.settle()
    assert is_gone(successor, "t")
