"""Topics are created, grow and vanish: what is written and who is told what, in order."""
from __future__ import annotations

import json

from controller import znodes
from controller.cluster import LeaderAndIsr
from controller.metadata_store.operations import Create, Delete
from tests.controller.memory_store import run
from tests.controller.world import World, expect


def leading(*broker_ids: int, **properties: str) -> World:
    world = World(broker_ids or (1,), **properties)
    world.take_office()
    world.transcript()
    return world


def test_created_topic_gets_nodes_leaders_and_is_told_to_all() -> None:
    world = leading(1, 2, 3)
    world.write_topic("t", {0: (1, 2), 1: (2,)})
    world.transcript()
    world.settle()
    expect(world, """
        create /brokers/topics/t/partitions
        create /brokers/topics/t/partitions/0
        create /brokers/topics/t/partitions/0/state leader 1 epoch 0 isr 1,2 by 1
        create /brokers/topics/t/partitions/1
        create /brokers/topics/t/partitions/1/state leader 2 epoch 0 isr 2 by 1
        to 1: LeaderAndIsr t-0 leader 1 epoch 0/0 isr 1,2 new
        to 2: LeaderAndIsr t-0 leader 1 epoch 0/0 isr 1,2 new
        to 2: LeaderAndIsr t-1 leader 2 epoch 0/0 isr 2 new
        to 1: UpdateMetadata brokers 1,2,3, t-0 leader 1 epoch 0/0, t-1 leader 2 epoch 0/0
        to 2: UpdateMetadata brokers 1,2,3, t-0 leader 1 epoch 0/0, t-1 leader 2 epoch 0/0
        to 3: UpdateMetadata brokers 1,2,3, t-0 leader 1 epoch 0/0, t-1 leader 2 epoch 0/0
        """)


def test_own_front_end_learns_overrides_before_it_leads() -> None:
    world = leading()
    world.write_topic("t", {0: (1,)}, configs={"retention.ms": "7"})
    world.settle()
    told = [line for line in world.transcript() if line.startswith("to ")]
    assert told == [
        "to 1: AlterConfigs 2 't' retention.ms=7",
        "to 1: LeaderAndIsr t-0 leader 1 epoch 0/0 isr 1 new",
        "to 1: UpdateMetadata brokers 1, t-0 leader 1 epoch 0/0"]


def test_many_new_topics_are_one_round_of_requests() -> None:
    world = leading()
    for number in range(50):
        world.write_topic(f"t{number}", {0: (1,)})
    world.settle()
    assert [line.split()[2] for line in world.transcript() if "UpdateMetadata" in line] == ["UpdateMetadata"]


def test_partition_without_replica_alive_waits_for_its_broker() -> None:
    world = leading(1)
    world.write_topic("t", {0: (2,)})
    world.settle()
    assert not world.exists("/brokers/topics/t/partitions")
    world.register(2)
    world.settle()
    assert world.leader_of("t") == (2, 0, (2,))


def test_state_nodes_that_are_there_already_were_made_by_a_write_whose_answer_was_lost() -> None:
    """A leader whose connection broke retakes office, perhaps on a server that shows its own writes later."""
    world = leading()
    world.write_topic("t", {0: (1,)})
    world.transcript()
    state = LeaderAndIsr(1, 0, (1,), leader_recovery_state=0, partition_epoch=0, controller_epoch=1)
    run(world.store.submit([
        Create(znodes.partitions_path("t")), Create(znodes.partition_path("t", 0)),
        Create(znodes.partition_state_path("t", 0), znodes.encode_partition_state(state))]))
    world.settle()
    assert world.leader_of("t") == (1, 1, (1,))
    told = [line for line in world.transcript() if line.startswith("to ")]
    assert told[-1] == "to 1: UpdateMetadata brokers 1, t-0 leader 1 epoch 1/1"


def test_added_partition_is_started_and_the_old_ones_left_alone() -> None:
    world = leading()
    world.write_topic("t", {0: (1,)})
    world.settle()
    world.transcript()
    world.write_topic("t", {0: (1,), 1: (1,)})
    world.transcript()
    world.settle()
    expect(world, """
        create /brokers/topics/t/partitions/1
        create /brokers/topics/t/partitions/1/state leader 1 epoch 0 isr 1 by 1
        to 1: LeaderAndIsr t-1 leader 1 epoch 0/0 isr 1 new
        to 1: UpdateMetadata brokers 1, t-1 leader 1 epoch 0/0
        """)


def test_topic_without_id_gets_one() -> None:
    world = leading()
    run(world.store.create("/brokers/topics/t", b'{"version":1,"partitions":{"0":[1]}}'))
    world.settle()
    node = json.loads(world.data("/brokers/topics/t") or b"")
    assert (node["version"], node["topic_id"]) == (3, "AAAAAAAAAAAAAAAAAAAAAQ")
    assert bytes(15) + b"\x01" in world.runtime.state.topic_names


def test_topics_have_no_ids_below_inter_broker_version_2_8() -> None:
    world = leading(1, inter_broker_protocol_version="2.7")
    run(world.store.create("/brokers/topics/t", b'{"version":1,"partitions":{"0":[1]}}'))
    world.settle()
    assert world.data("/brokers/topics/t") == b'{"version":1,"partitions":{"0":[1]}}'
    assert world.runtime.state.topics["t"].topic_id == bytes(16)


def test_unreadable_topic_is_left_out_and_harms_no_other() -> None:
    world = leading()
    run(world.store.submit([Create("/brokers/topics/bad", b"{"), Create("/brokers/topics/none")]))
    world.write_topic("good", {0: (1,)})
    world.settle()
    assert set(world.runtime.state.topics) == {"good"}
    assert world.leader_of("good") == (1, 0, (1,))


def test_unreadable_overrides_do_not_stop_the_topic() -> None:
    world = leading()
    run(world.store.create(znodes.config_path("topics", "t"), b"{"))
    world.write_topic("t", {0: (1,)})
    world.settle()
    assert world.leader_of("t") == (1, 0, (1,))


def test_topic_removed_by_hand_is_forgotten() -> None:
    world = leading()
    world.write_topic("t", {})
    world.settle()
    run(world.store.submit([Delete("/brokers/topics/t")]))
    world.settle()
    assert world.runtime.state.topics == {}


def test_partition_directory_left_by_an_interrupted_creation_is_used() -> None:
    world = leading()
    run(world.store.submit([Create("/brokers/topics/t", b'{"version":3,"partitions":{"0":[1]}}'),
                            Create("/brokers/topics/t/partitions"), Create("/brokers/topics/t/partitions/0")]))
    world.settle()
    assert world.leader_of("t") == (1, 0, (1,))
