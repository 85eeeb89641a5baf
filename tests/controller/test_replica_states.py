"""The replica state machine: every transition, and what each broker is told."""
from __future__ import annotations

import itertools
import json

import pytest

from controller.decision import LeaderAndIsrTarget, StopReplicaTarget
from controller.metadata_store.operations import SetData
from controller.records import VALID_PREVIOUS_REPLICA_STATES, ReplicaMoved, ReplicaState
from controller.replica_states import decide_moves, decide_offline
from tests.controller.cluster_state import KEY, cluster, led_by, replica, with_replica

S = ReplicaState
PAIRS = [pair for pair in itertools.product(ReplicaState, ReplicaState) if pair[1] is not S.OFFLINE]


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_moves_follow_the_table_and_illegal_ones_change_nothing(before: S, after: S) -> None:
    state = with_replica(cluster(1, 2, leader=led_by(2, 1, 2)), 1, before)
    decision = decide_moves(state, [replica(1)], after)
    if before in VALID_PREVIOUS_REPLICA_STATES[after]:
        assert decision.records == [ReplicaMoved(replica(1), after)]
        assert decision.problems == []
    else:
        assert decision.records == decision.leader_and_isr == decision.stop_replica == []
        assert decision.problems == [f"t-0 on broker 1 cannot go from {before.value} to {after.value}"]
    assert decision.writes == []


@pytest.mark.parametrize("before", S)
def test_offline_follows_the_table_and_illegal_ones_change_nothing(before: S) -> None:
    state = with_replica(cluster(2, leader=led_by(2, 1, 2)), 1, before)
    decision = decide_offline(state, 1, [replica(1)])
    legal = before in VALID_PREVIOUS_REPLICA_STATES[S.OFFLINE]
    assert bool(decision.records) is bool(decision.writes) is bool(decision.stop_replica) is legal
    assert bool(decision.problems) is not legal


def test_new_replica_of_a_led_partition_is_told_that_it_is_new() -> None:
    decision = decide_moves(cluster(1, 2, leader=led_by(2, 2)), [replica(1)], S.NEW)
    assert decision.leader_and_isr == [LeaderAndIsrTarget(KEY, (1,), is_new=True)]


def test_replica_of_a_partition_without_leadership_is_told_nothing() -> None:
    assert decide_moves(cluster(1, 2), [replica(1)], S.NEW).leader_and_isr == []
    offline = with_replica(cluster(1, 2), 1, S.OFFLINE)
    assert decide_moves(offline, [replica(1)], S.ONLINE).leader_and_isr == []


def test_new_replica_going_online_was_told_already() -> None:
    state = with_replica(cluster(1, 2, leader=led_by(1, 1, 2)), 1, S.NEW)
    assert decide_moves(state, [replica(1)], S.ONLINE).leader_and_isr == []


@pytest.mark.parametrize("before", [S.ONLINE, S.OFFLINE, S.DELETION_INELIGIBLE])
def test_replica_coming_back_is_told_who_leads(before: S) -> None:
    state = with_replica(cluster(1, 2, leader=led_by(2, 2)), 1, before)
    assert decide_moves(state, [replica(1)], S.ONLINE).leader_and_isr == [LeaderAndIsrTarget(KEY, (1,))]


def test_deletion_stops_the_replica_with_delete() -> None:
    state = with_replica(cluster(1, 2, deleting=True), 1, S.OFFLINE)
    assert decide_moves(state, [replica(1)], S.DELETION_STARTED).stop_replica == [StopReplicaTarget(KEY, 1, True)]


def test_offline_replica_leaves_the_in_sync_set_and_the_others_are_told() -> None:
    state = with_replica(cluster(2, replicas=(1, 2), leader=led_by(2, 1, 2)), 1, S.ONLINE)
    decision = decide_offline(state, 1, [replica(1)])
    assert decision.stop_replica == [StopReplicaTarget(KEY, 1, False)]
    assert decision.records == [ReplicaMoved(replica(1), S.OFFLINE)]
    (write,) = decision.writes
    (operation,) = write.operations
    assert isinstance(operation, SetData)
    assert json.loads(operation.data or b"") == {
        "version": 1, "leader": 2, "leader_epoch": 6, "controller_epoch": 3, "isr": [2]}
    assert (operation.version, write.partition) == (8, KEY)
    assert write.targets == (LeaderAndIsrTarget(KEY, (2,)),)


def test_offline_replica_that_was_not_in_sync_needs_no_write() -> None:
    state = with_replica(cluster(2, leader=led_by(2, 2)), 1, S.ONLINE)
    decision = decide_offline(state, 1, [replica(1)])
    assert decision.writes == []
    assert decision.leader_and_isr == [LeaderAndIsrTarget(KEY, (2,))]


def test_offline_replica_of_a_partition_without_leadership_is_announced() -> None:
    state = with_replica(cluster(2), 1, S.NEW)
    decision = decide_offline(state, 1, [replica(1)])
    assert decision.update_metadata == [KEY]
    assert decision.update_metadata_broker_ids == {2}


def test_topic_being_deleted_keeps_its_state_node() -> None:
    state = with_replica(cluster(1, 2, leader=led_by(1, 1, 2), deleting=True), 1, S.ONLINE)
    decision = decide_offline(state, 1, [replica(1)])
    assert decision.writes == decision.leader_and_isr == []
    assert decision.stop_replica == [StopReplicaTarget(KEY, 1, False)]
