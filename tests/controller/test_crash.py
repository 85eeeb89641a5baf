"""kill -9 between any two writes to the store: the next controller finds a consistent tree and finishes.

Every request of the story below is a transaction of its own, as on ZooKeeper; the process dies after the
n-th of them, for every n.
"""
from __future__ import annotations

import contextlib

import pytest

from broker.protocol.messages import message_class
from controller import znodes
from controller.apis.create_partitions import create_partitions
from controller.apis.create_topics import create_topics
from controller.apis.delete_topics import delete_topics
from controller.cluster import TopicPartition
from controller.metadata_store.data_tree import DataTree, Draft
from controller.metadata_store.operations import Multi
from tests.controller.memory_store import NOW_MS, Crash, run
from tests.controller.world import World, creatable, create_topics_request


def story(world: World) -> None:
    """Topics come, grow and go; the broker bounces."""
    world.take_office()
    request = create_topics_request(creatable("kept", 2, 1, configs={"retention.ms": "1"}), creatable("gone", 2, 1))
    run(create_topics(world.runtime, world.config, request, lambda below: 0))
    world.settle()
    grow = message_class("CreatePartitionsRequest")
    run(create_partitions(world.runtime, grow(timeout_ms=1000, topics=[
        grow.CreatePartitionsTopic(name="kept", count=4, assignments=None)])))
    world.settle()
    delete = message_class("DeleteTopicsRequest")
    run(delete_topics(world.runtime, delete(topic_names=["gone"], timeout_ms=1000), 5))
    world.settle()
    world.register(1)
    world.settle()


def end_all_sessions(tree: DataTree) -> None:
    """The machine died: what was ephemeral is gone."""
    for session_id in tree.sessions_with_ephemerals():
        draft = Draft(tree, session_id, NOW_MS)
        draft.end_session(session_id)
        for change in draft.changes():
            tree.replay(change)


def count_writes() -> int:
    world = World()
    writes: list[object] = []
    world.server.on_request = lambda request, outcome: writes.append(request) if isinstance(
        request, Multi) else None
    story(world)
    return len(writes)


def check_consistency(world: World) -> None:
    topics = world.children(znodes.TOPICS)
    assert set(topics) <= {"kept", "gone"}
    assert world.children(znodes.DELETE_TOPICS) == []
    assert world.children("/config/topics") == topics
    for topic in topics:
        assignment = znodes.decode_topic(topic, world.data(znodes.topic_path(topic)))
        assert assignment.topic_id == world.runtime.state.topics[topic].topic_id
        numbers = [int(number) for number in world.children(znodes.partitions_path(topic))]
        assert sorted(numbers) == sorted(assignment.partitions)
        for number in numbers:
            leader, _, isr = world.leader_of(topic, number)
            assert (leader, isr) == (1, (1,))
            known = world.runtime.state.partition(TopicPartition(topic, number)).leader_and_isr
            assert known is not None and known.leader == 1


WRITE_COUNT = count_writes()


@pytest.mark.parametrize("writes_before_death", range(WRITE_COUNT + 10))
def test_next_controller_finds_and_finishes_what_was_begun(writes_before_death: int) -> None:
    world = World()
    world.server.crash_after = writes_before_death
    with contextlib.suppress(Crash):
        story(world)
    tree = world.server.tree
    epoch_node = tree.node(znodes.CONTROLLER_EPOCH)
    before = -1 if epoch_node is None else znodes.decode_controller_epoch(epoch_node.data)
    end_all_sessions(tree)

    successor = World((1,), tree=tree)
    successor.next_topic_id = 50
    successor.take_office()
    check_consistency(successor)
    assert successor.runtime.state.epoch > before
