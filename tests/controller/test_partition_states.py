"""The partition state machine: every transition, and what a decision writes and tells."""
from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest

from controller.cluster import RECOVERED, RECOVERING, LeaderAndIsr
from controller.decision import LeaderAndIsrTarget
from controller.metadata_store.errors import NodeExistsError
from controller.metadata_store.operations import Create, SetData
from controller.partition_states import Strategy, decide_elections, decide_first_leaders, decide_moves
from controller.records import (
    VALID_PREVIOUS_PARTITION_STATES,
    BrokerUnregistered,
    LeadershipChanged,
    OfflineDirectoriesChanged,
    PartitionMoved,
    PartitionState,
)
from tests.controller.cluster_state import KEY, cluster, led_by

STATES = list(itertools.product(PartitionState, PartitionState))
NEVER = lambda topic: False  # noqa: E731
ALWAYS = lambda topic: True  # noqa: E731


@pytest.mark.parametrize(("before", "after"), STATES)
def test_moves_follow_the_table_and_illegal_ones_change_nothing(
        before: PartitionState, after: PartitionState) -> None:
    decision = decide_moves(cluster(1, state=before), [KEY], after)
    if before in VALID_PREVIOUS_PARTITION_STATES[after]:
        assert decision.records == [PartitionMoved(KEY, after)]
        assert decision.problems == []
    else:
        assert decision.records == []
        assert decision.problems == [f"t-0 cannot go from {before.value} to {after.value}"]
    assert decision.writes == []


def test_first_leader_is_the_first_replica_alive_and_all_alive_are_in_sync() -> None:
    decision = decide_first_leaders(cluster(2, 3, replicas=(1, 2, 3), state=PartitionState.NEW), [KEY])
    partitions, partition, state = decision.writes
    assert partitions.operations == (Create("/brokers/topics/t/partitions"),)
    assert partition.operations == (Create("/brokers/topics/t/partitions/0"),)
    assert partitions.tolerated == partition.tolerated == (NodeExistsError,)
    leader_and_isr = LeaderAndIsr(2, 0, (2, 3), RECOVERED, 0, 3)
    assert state.records == (LeadershipChanged(KEY, leader_and_isr), PartitionMoved(KEY, PartitionState.ONLINE))
    assert state.targets == (LeaderAndIsrTarget(KEY, (2, 3), is_new=True),)
    (create,) = state.operations
    assert isinstance(create, Create)
    assert json.loads(create.data or b"")["controller_epoch"] == 3
    assert state.tolerated == ()


def test_new_partition_without_replica_alive_stays_new() -> None:
    decision = decide_first_leaders(cluster(9, state=PartitionState.NEW), [KEY])
    assert decision.writes == decision.records == []
    assert decision.problems == ["t-0 gets no leader: none of its replicas [1, 2] is alive"]


def test_directory_of_a_topic_is_made_once_per_decision() -> None:
    state = cluster(1, state=PartitionState.NEW)
    decision = decide_first_leaders(state, [KEY, KEY])
    assert [write.operations[0].path for write in decision.writes].count("/brokers/topics/t/partitions") == 1


def test_election_writes_under_the_partition_epoch_and_tells_the_replicas_alive() -> None:
    state = cluster(2, replicas=(1, 2), leader=led_by(1, 1, 2), state=PartitionState.OFFLINE)
    (write,) = decide_elections(state, [KEY], Strategy.OFFLINE, NEVER).writes
    (operation,) = write.operations
    assert isinstance(operation, SetData)
    assert (operation.path, operation.version) == ("/brokers/topics/t/partitions/0/state", 8)
    assert json.loads(operation.data or b"") == {
        "version": 1, "leader": 2, "leader_epoch": 6, "controller_epoch": 3, "isr": [2]}
    assert write.records[0] == LeadershipChanged(KEY, LeaderAndIsr(2, 6, (2,), RECOVERED, 9, 3))
    assert write.targets == (LeaderAndIsrTarget(KEY, (2,)),)
    assert write.partition == KEY


def test_unclean_election_asks_for_the_topic_only_when_nobody_in_sync_is_alive() -> None:
    asked: list[str] = []

    def unclean_allowed(topic: str) -> bool:
        asked.append(topic)
        return True

    clean = cluster(1, 2, leader=led_by(1, 1, 2), state=PartitionState.ONLINE)
    decide_elections(clean, [KEY], Strategy.OFFLINE, unclean_allowed)
    assert asked == []
    unclean = cluster(2, leader=led_by(1, 1), state=PartitionState.OFFLINE)
    (write,) = decide_elections(unclean, [KEY], Strategy.OFFLINE, unclean_allowed).writes
    assert asked == ["t"]
    (operation,) = write.operations
    assert isinstance(operation, SetData)
    assert json.loads(operation.data or b"")["leader_recovery_state"] == RECOVERING


def test_recovery_state_is_left_out_where_brokers_do_not_know_it() -> None:
    state = cluster(2, leader=led_by(1, 1), state=PartitionState.OFFLINE)
    (write,) = decide_elections(state, [KEY], Strategy.OFFLINE, ALWAYS, recovery_state_supported=False).writes
    assert b"leader_recovery_state" not in getattr(write.operations[0], "data", b"")


def test_failed_election_changes_nothing_and_says_why() -> None:
    state = cluster(2, leader=led_by(1, 1), state=PartitionState.OFFLINE)
    decision = decide_elections(state, [KEY], Strategy.OFFLINE, NEVER)
    assert decision.writes == decision.records == []
    assert decision.problems == [
        "t-0 gets no leader by strategy offline: replicas [1, 2], in sync [1], alive [2]"]


def test_replica_in_a_failed_directory_is_not_alive() -> None:
    state = cluster(1, 2, leader=led_by(1, 1, 2), state=PartitionState.OFFLINE)
    state.replay(OfflineDirectoriesChanged(1, frozenset({KEY})))
    (write,) = decide_elections(state, [KEY], Strategy.OFFLINE, NEVER).writes
    assert write.targets == (LeaderAndIsrTarget(KEY, (2,)),)


def test_state_of_a_newer_controller_is_left_alone() -> None:
    newer = replace(led_by(1, 1, 2), controller_epoch=4)
    state = cluster(2, leader=newer, state=PartitionState.OFFLINE)
    decision = decide_elections(state, [KEY], Strategy.OFFLINE, NEVER)
    assert decision.writes == []
    assert "newer controller" in decision.problems[0]


def test_preferred_strategy_goes_back_to_the_head_of_the_assignment() -> None:
    state = cluster(1, 2, leader=led_by(2, 1, 2), state=PartitionState.ONLINE)
    (write,) = decide_elections(state, [KEY], Strategy.PREFERRED, NEVER).writes
    (record, _) = write.records
    assert isinstance(record, LeadershipChanged)
    assert record.leader_and_isr.leader == 1
    state.replay(BrokerUnregistered(1))
    assert decide_elections(state, [KEY], Strategy.PREFERRED, NEVER).writes == []
