"""Election rules: every strategy against every interesting set of replicas."""
from __future__ import annotations

import pytest

from controller.cluster import NO_LEADER, RECOVERED, RECOVERING, LeaderAndIsr, ReplicaAssignment
from controller.election import (
    elect_controlled_shutdown,
    elect_offline,
    elect_preferred,
    elect_reassign,
    without_replica,
)

ASSIGNMENT = ReplicaAssignment((1, 2, 3))


def led_by(leader: int, *isr: int) -> LeaderAndIsr:
    return LeaderAndIsr(leader, 5, isr, RECOVERED, 9, 1)


@pytest.mark.parametrize(("current", "online", "leader", "isr"), [
    (led_by(1, 1, 2, 3), {2, 3}, 2, (2, 3)),
    (led_by(1, 1, 3, 2), {2, 3}, 2, (3, 2)),
    (led_by(1, 1, 3), {2, 3}, 3, (3,)),
    (led_by(1, 1, 2, 3), {1, 2, 3}, 1, (1, 2, 3)),
    (led_by(NO_LEADER, 3), {1, 2, 3}, 3, (3,)),
])
def test_offline_election_takes_the_first_assigned_replica_that_is_in_sync(
        current: LeaderAndIsr, online: set[int], leader: int, isr: tuple[int, ...]) -> None:
    elected = elect_offline(current, ASSIGNMENT, online, unclean_allowed=False)
    assert elected is not None
    assert (elected.leader, elected.isr, elected.leader_epoch) == (leader, isr, 6)
    assert elected.leader_recovery_state == RECOVERED


def test_offline_election_without_replica_in_sync_elects_nobody() -> None:
    assert elect_offline(led_by(1, 1), ASSIGNMENT, {2, 3}, unclean_allowed=False) is None


def test_unclean_election_takes_the_first_replica_alive_and_marks_it_recovering() -> None:
    elected = elect_offline(led_by(1, 1), ASSIGNMENT, {2, 3}, unclean_allowed=True)
    assert elected is not None
    assert (elected.leader, elected.isr, elected.leader_recovery_state) == (2, (2,), RECOVERING)


def test_unclean_election_prefers_a_replica_in_sync() -> None:
    elected = elect_offline(led_by(1, 1, 3), ASSIGNMENT, {2, 3}, unclean_allowed=True)
    assert elected is not None
    assert (elected.leader, elected.leader_recovery_state) == (3, RECOVERED)


def test_unclean_election_without_replica_alive_elects_nobody() -> None:
    assert elect_offline(led_by(1, 1), ASSIGNMENT, set(), unclean_allowed=True) is None


def test_later_clean_election_keeps_the_recovery_state() -> None:
    recovering = LeaderAndIsr(2, 6, (2,), RECOVERING, 10, 1)
    elected = elect_offline(recovering, ASSIGNMENT, {2}, unclean_allowed=False)
    assert elected is not None
    assert elected.leader_recovery_state == RECOVERING


def test_preferred_election_takes_only_the_head_of_the_assignment() -> None:
    elected = elect_preferred(led_by(2, 2, 1), ASSIGNMENT, {1, 2})
    assert elected is not None
    assert (elected.leader, elected.isr, elected.leader_epoch) == (1, (2, 1), 6)
    assert elect_preferred(led_by(2, 2, 1), ASSIGNMENT, {2, 3}) is None
    assert elect_preferred(led_by(2, 2, 3), ASSIGNMENT, {1, 2, 3}) is None


def test_reassignment_takes_the_first_target_replica_in_sync() -> None:
    moving = ReplicaAssignment((4, 3, 1, 2), adding_replicas=(4,), removing_replicas=(1, 2))
    elected = elect_reassign(led_by(1, 1, 2, 3), moving, {1, 2, 3, 4})
    assert elected is not None
    assert (elected.leader, elected.isr) == (3, (1, 2, 3))
    assert elect_reassign(led_by(1, 1, 2), moving, {1, 2, 3, 4}) is None


def test_controlled_shutdown_moves_away_and_drops_the_leaving_ones() -> None:
    elected = elect_controlled_shutdown(led_by(1, 1, 2, 3), ASSIGNMENT, {1, 2, 3}, {1})
    assert elected is not None
    assert (elected.leader, elected.isr) == (2, (2, 3))
    assert elect_controlled_shutdown(led_by(1, 1), ASSIGNMENT, {1, 2, 3}, {1}) is None


def test_removed_replica_leaves_the_in_sync_set_and_the_epoch_rises() -> None:
    left = without_replica(led_by(1, 1, 2, 3), 2, NO_LEADER)
    assert (left.leader, left.isr, left.leader_epoch) == (1, (1, 3), 6)


def test_removed_leader_leaves_no_leader() -> None:
    left = without_replica(led_by(1, 1, 2), 1, NO_LEADER)
    assert (left.leader, left.isr) == (NO_LEADER, (2,))


def test_last_replica_in_sync_is_remembered() -> None:
    left = without_replica(led_by(1, 1), 1, NO_LEADER)
    assert (left.leader, left.isr, left.leader_epoch) == (NO_LEADER, (1,), 6)
