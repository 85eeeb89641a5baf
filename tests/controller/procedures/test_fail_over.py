"""Taking office: everything is read, and every broker told everything, in Kafka's order."""
from __future__ import annotations

import json
from typing import Any

import pytest

from controller import controller_election, znodes
from controller.inter_broker_version import features_of
from controller.metadata_store.operations import Create, SetData
from controller.procedures.fail_over import take_office
from controller.procedures.runtime import ControllerMovedError
from tests.controller.memory_store import run
from tests.controller.world import World, expect


def successor_of(world: World, **properties: str) -> World:
    """Another controller on the same tree; brokers and topics stay."""
    successor = World((), tree=world.server.tree, **properties)
    run(successor.store.delete(znodes.CONTROLLER))
    return successor


def test_first_controller_of_an_empty_cluster() -> None:
    world = World((1,))
    world.take_office()
    expect(world, """
        create /controller_epoch 0
        create /controller {"version":2,"brokerid":1,"timestamp":"0","kraftControllerEpoch":-1}
        set /controller_epoch 1
        create /feature {"version":2,"status":1,"features":{}}
        to 1: UpdateMetadata brokers 1
        """)


def test_brokers_then_leaders_then_metadata_of_everything_and_no_epoch_rises() -> None:
    world = World((1, 2))
    world.take_office()
    world.write_topic("t", {0: (1, 2), 1: (2,)})
    world.settle()
    successor = successor_of(world)
    successor.transcript()
    successor.take_office()
    expect(successor, """
        create /controller {"version":2,"brokerid":1,"timestamp":"0","kraftControllerEpoch":-1}
        set /controller_epoch 2
        to 1: UpdateMetadata brokers 1,2
        to 2: UpdateMetadata brokers 1,2
        to 1: LeaderAndIsr t-0 leader 1 epoch 0/0 isr 1,2
        to 2: LeaderAndIsr t-0 leader 1 epoch 0/0 isr 1,2
        to 2: LeaderAndIsr t-1 leader 2 epoch 0/0 isr 2
        to 1: UpdateMetadata brokers 1,2, t-0 leader 1 epoch 0/0, t-1 leader 2 epoch 0/0
        to 2: UpdateMetadata brokers 1,2, t-0 leader 1 epoch 0/0, t-1 leader 2 epoch 0/0
        """)


def test_what_happened_without_a_controller_is_made_good() -> None:
    """A broker died, a topic was written, and a partition has a directory but no state."""
    world = World((1, 2))
    world.take_office()
    world.write_topic("t", {0: (2, 1)})
    world.settle()
    world.fail(2)
    world.write_topic("new", {0: (1,)})
    run(world.store.submit([Create("/brokers/topics/new/partitions"), Create("/brokers/topics/new/partitions/0")]))
    successor = successor_of(world)
    successor.take_office()
    assert successor.leader_of("t") == (1, 2, (1,))
    assert successor.leader_of("new") == (1, 0, (1,))


def test_old_notifications_are_removed() -> None:
    world = World((1,))
    for directory in (znodes.LOG_DIR_EVENT_NOTIFICATION, znodes.ISR_CHANGE_NOTIFICATION):
        run(world.store.create(f"{directory}/x_", b"{}", sequential=True))
    world.take_office()
    assert world.children(znodes.LOG_DIR_EVENT_NOTIFICATION) == []
    assert world.children(znodes.ISR_CHANGE_NOTIFICATION) == []


@pytest.mark.parametrize(("version", "node"), [
    ("3.9", {"version": 2, "status": 1, "features": {}}), ("3.2", {"version": 1, "status": 1, "features": {}}),
    ("2.6", {"version": 1, "status": 0, "features": {}})])
def test_feature_node_follows_the_inter_broker_version(version: str, node: dict[str, Any]) -> None:
    world = World((1,), inter_broker_protocol_version=version)
    world.take_office()
    run(take_office(world.runtime, features_of(version).feature_node_version))
    assert json.loads(world.data(znodes.FEATURE) or b"") == node


def test_unreadable_state_node_leaves_one_partition_without_leader() -> None:
    world = World((1,))
    world.take_office()
    world.write_topic("t", {0: (1,), 1: (1,)})
    world.settle()
    run(world.store.submit([SetData("/brokers/topics/t/partitions/0/state", b"{")]))
    successor = successor_of(world)
    successor.take_office()
    told = [line for line in successor.transcript() if "LeaderAndIsr" in line]
    assert told == ["to 1: LeaderAndIsr t-1 leader 1 epoch 0/0 isr 1"]
    assert successor.data("/brokers/topics/t/partitions/0/state") == b"{"


def test_nothing_between_the_reads_and_the_watches_is_lost() -> None:
    """A topic, a broker and a deletion appear just before each read of the fail-over."""
    world = World((1,))
    original = world.runtime.read
    steps = iter(range(100))

    async def disturbed(requests: Any) -> Any:
        step = next(steps)
        if step < 12:
            world.write_topic(f"t{step}", {0: (1,)})
        return await original(requests)

    world.runtime.read = disturbed  # type: ignore[method-assign]
    world.take_office()
    created = [name for name in world.children(znodes.TOPICS) if name.startswith("t")]
    assert len(created) >= 8
    for topic in created:
        assert world.leader_of(topic) == (1, 0, (1,))


def test_writes_of_a_former_controller_fail_and_change_nothing() -> None:
    world = World((1,))
    world.take_office()
    rival = world.server.session()
    run(world.store.delete(znodes.CONTROLLER))
    assert run(controller_election.stand(rival, 2, 0)) is not None
    world.write_topic("t", {0: (1,)})
    with pytest.raises(ControllerMovedError):
        world.settle()
    assert not world.exists("/brokers/topics/t/partitions")
