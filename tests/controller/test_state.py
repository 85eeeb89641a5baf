"""Replay is the only mutator, and each record does one thing."""
from __future__ import annotations

import typing

import pytest

from controller.cluster import EPOCH_DURING_DELETE, NO_EPOCH, ReplicaAssignment, TopicPartition
from controller.records import (
    BrokerUnregistered,
    DeletionHalted,
    DeletionResumed,
    DeletionStarted,
    LeadershipChanged,
    OfflineDirectoriesChanged,
    PartitionAssigned,
    PartitionMoved,
    PartitionState,
    Record,
    ReplicaMoved,
    ReplicaState,
    TopicRemoved,
)
from controller.state import _REPLAY
from tests.controller.cluster_state import KEY, TOPIC_ID, cluster, led_by, replica, with_replica


def test_every_record_can_be_replayed() -> None:
    assert set(_REPLAY) == set(typing.get_args(Record))


def test_removed_topic_leaves_nothing_behind() -> None:
    state = cluster(1, leader=led_by(1, 1), deleting=True)
    for record in (DeletionStarted("t"), DeletionHalted("t"), TopicRemoved("t")):
        state.replay(record)
    assert not state.topics and not state.topic_names
    assert not state.topics_to_be_deleted
    assert not state.topics_with_deletion_started
    assert not state.topics_ineligible_for_deletion


def test_halted_deletion_can_be_resumed() -> None:
    state = cluster(1, deleting=True)
    state.replay(DeletionHalted("t"))
    state.replay(DeletionResumed("t"))
    assert state.topics_to_be_deleted == {"t"}
    assert not state.topics_ineligible_for_deletion


def test_topics_are_found_by_id() -> None:
    assert cluster(1).topic_names == {TOPIC_ID: "t"}


def test_new_assignment_keeps_what_is_known_of_the_partition() -> None:
    state = cluster(1, leader=led_by(1, 1), state=PartitionState.ONLINE)
    state.replay(PartitionAssigned(KEY, ReplicaAssignment((1, 3))))
    assert state.partition(KEY).assignment.replicas == (1, 3)
    assert state.partition(KEY).leader_and_isr == led_by(1, 1)


def test_replica_is_online_when_its_broker_lives_and_its_directory_works() -> None:
    state = cluster(1, 2)
    assert state.online_replicas(KEY, (1, 2, 3)) == (1, 2)
    state.replay(OfflineDirectoriesChanged(1, frozenset({KEY})))
    assert state.online_replicas(KEY, (1, 2)) == (2,)
    state.replay(OfflineDirectoriesChanged(1, frozenset()))
    state.replay(BrokerUnregistered(2))
    assert state.online_replicas(KEY, (1, 2)) == (1,)


def test_partitions_are_found_by_what_they_lack() -> None:
    state = cluster(2, leader=led_by(1, 1), state=PartitionState.OFFLINE)
    assert state.partitions_without_leader() == [KEY]
    assert state.partitions_with_offline_leader() == [KEY]
    assert state.partitions_with_leadership() == [KEY]
    state.replay(PartitionMoved(KEY, PartitionState.ONLINE))
    assert state.partitions_without_leader() == []


def test_topics_being_deleted_are_left_out_of_elections() -> None:
    state = cluster(2, leader=led_by(1, 1), state=PartitionState.OFFLINE, deleting=True)
    assert state.partitions_without_leader() == []
    assert state.partitions_with_offline_leader() == []
    assert state.partitions_with_leadership() == []


@pytest.mark.parametrize(("deleting", "leader", "epoch"), [
    (True, led_by(1, 1), EPOCH_DURING_DELETE), (False, led_by(1, 1), 5), (False, None, NO_EPOCH)])
def test_epoch_of_stop_replica(deleting: bool, leader: typing.Any, epoch: int) -> None:
    assert cluster(1, leader=leader, deleting=deleting).leader_epoch_for_stop(KEY) == epoch


def test_replica_that_does_not_exist_has_no_entry() -> None:
    state = with_replica(cluster(1), 1, ReplicaState.ONLINE)
    state.replay(ReplicaMoved(replica(1), ReplicaState.NON_EXISTENT))
    assert state.partition(KEY).replica_states == {}
    assert state.replica_state(replica(1)) is ReplicaState.NON_EXISTENT


def test_record_about_something_unknown_is_a_bug() -> None:
    with pytest.raises(KeyError):
        cluster(1).replay(LeadershipChanged(TopicPartition("other", 0), led_by(1, 1)))
