"""Metadata rebuilt from directories: nothing goes back, and a controller can take it over."""
from __future__ import annotations

import json

import pytest

from broker.protocol.messages import message_class
from controller import znodes
from controller.apis.allocate_producer_ids import allocate_producer_ids
from controller.metadata_store.errors import StoreError
from controller.rebuild import FoundPartition, InconsistentDirectoriesError, rebuild_requests
from tests.controller.memory_store import run
from tests.controller.world import World

ID = b"i" * 16
OFFSETS = {"__consumer_offsets": {"cleanup.policy": "compact"}}


def rebuilt(*found: FoundPartition, producer_id_max: int = -1) -> World:
    world = World((1,))
    outcomes = run(world.store.submit(rebuild_requests(
        found, broker_id=1, cluster_id="c", producer_id_max=producer_id_max, configs=OFFSETS,
        new_topic_id=lambda: b"n" * 16)))
    assert not [outcome for outcome in outcomes if isinstance(outcome, StoreError)]
    world.take_office()
    return world


def test_leader_epochs_lie_above_every_epoch_in_the_caches() -> None:
    world = rebuilt(FoundPartition("t", 0, ID, 7), FoundPartition("t", 1, ID, -1))
    assert world.leader_of("t", 0) == (1, 8, (1,))
    assert world.leader_of("t", 1) == (1, 0, (1,))
    assert any(line == "to 1: LeaderAndIsr t-0 leader 1 epoch 8/0 isr 1" for line in world.transcript())


def test_topic_ids_stay() -> None:
    world = rebuilt(FoundPartition("t", 0, None, 0), FoundPartition("t", 1, ID, 0), FoundPartition("u", 0, None, 0))
    assert world.runtime.state.topics["t"].topic_id == ID
    assert world.runtime.state.topics["u"].topic_id == b"n" * 16


def test_partitions_without_directory_are_left_out() -> None:
    world = rebuilt(FoundPartition("t", 2, ID, 0))
    assert json.loads(world.data("/brokers/topics/t") or b"")["partitions"] == {"2": [1]}


@pytest.mark.parametrize(("highest", "next_start"), [(-1, 0), (0, 1000), (999, 1000), (1000, 2000), (4321, 5000)])
def test_producer_ids_begin_above_the_known_ones(highest: int, next_start: int) -> None:
    world = rebuilt(FoundPartition("t", 0, ID, 0), producer_id_max=highest)
    request = message_class("AllocateProducerIdsRequest")(
        broker_id=1, broker_epoch=world.runtime.state.brokers[1].epoch)
    assert run(allocate_producer_ids(world.runtime, request)).producer_id_start == next_start


def test_kafka_s_own_topics_keep_their_overrides() -> None:
    world = rebuilt(FoundPartition("__consumer_offsets", 0, ID, 0))
    assert znodes.decode_config("", world.data("/config/topics/__consumer_offsets")) == {
        "cleanup.policy": "compact"}


@pytest.mark.parametrize("found", [
    [FoundPartition("t", 0, ID, 0), FoundPartition("t", 0, ID, 1)],
    [FoundPartition("t", 0, ID, 0), FoundPartition("t", 1, b"j" * 16, 0)],
])
def test_contradictions_are_refused(found: list[FoundPartition]) -> None:
    with pytest.raises(InconsistentDirectoriesError):
        rebuild_requests(found, broker_id=1, cluster_id="c", producer_id_max=-1, configs={},
                         new_topic_id=lambda: ID)
