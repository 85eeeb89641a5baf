"""What the transcripts do not show: epochs of leadership, maps of errors, filters, topics that go."""

from __future__ import annotations

from typing import Any

import pytest

from broker.coordinators.effects import Append, Effect, Now, Reply
from broker.coordinators.group.commits import OffsetLimits
from broker.coordinators.group.coordinator import (
    GroupCoordinator,
    group_store_error,
    offset_commit_error,
)
from broker.coordinators.group.loading import LogContent
from broker.coordinators.group.offsets import CommittedOffset
from broker.coordinators.group.rebalance import GroupLimits
from broker.coordinators.group.records import RecordVersions
from broker.coordinators.group.requests import Committer
from broker.protocol.errors import ErrorCode

NOW = Now(1_000, 1_700_000_000_000)
NOBODY = Committer()


@pytest.fixture
def coordinator() -> GroupCoordinator:
    """Groups live in the partition that their first letter names; none is led yet."""
    return GroupCoordinator(
        GroupLimits(1000, 60_000, 10, 3000), OffsetLimits(100, 1000), RecordVersions(),
        lambda group: ord(group[0]) - ord("a") if group else 0, lambda: "id",
    )  # fmt: skip


def lead(coordinator: GroupCoordinator, number: int, epoch: int = 0) -> None:
    assert coordinator.begin_loading(number, epoch)
    coordinator.finish_loading(number, LogContent(), NOW)


def commit(coordinator: GroupCoordinator, group: str, *topics: str) -> list[Effect]:
    offsets = {(topic, 0): CommittedOffset(1, -1, "", NOW.wall_ms) for topic in topics}
    coordinator.commit(group, NOBODY, offsets, "ticket", NOW)
    effects = coordinator.take_effects()
    for effect in effects:
        if isinstance(effect, Append):
            coordinator.appended(effect.continuation, ErrorCode.NONE, 0, NOW)
    return effects + coordinator.take_effects()


def status(coordinator: GroupCoordinator, group: str) -> ErrorCode:
    return coordinator.describe(group)[0]


def test_groups_come_and_go_with_their_partition(coordinator: GroupCoordinator) -> None:
    assert status(coordinator, "alpha") == ErrorCode.NOT_COORDINATOR
    assert coordinator.begin_loading(0, 3)
    assert status(coordinator, "alpha") == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    coordinator.finish_loading(0, LogContent(), NOW)
    assert status(coordinator, "alpha") == ErrorCode.NONE
    assert status(coordinator, "beta") == ErrorCode.NOT_COORDINATOR
    coordinator.unload(0, 4, NOW)
    assert status(coordinator, "alpha") == ErrorCode.NOT_COORDINATOR


def test_a_leader_that_stays_one_reads_nothing_again(coordinator: GroupCoordinator) -> None:
    lead(coordinator, 0, 3)
    commit(coordinator, "alpha", "t")
    assert not coordinator.begin_loading(0, 4)
    assert coordinator.find("alpha") is not None


def test_words_of_an_earlier_leadership_change_nothing(coordinator: GroupCoordinator) -> None:
    lead(coordinator, 0, 3)
    coordinator.unload(0, 2, NOW)
    assert status(coordinator, "alpha") == ErrorCode.NONE
    coordinator.unload(0, 4, NOW)
    assert not coordinator.begin_loading(0, 3)


def test_a_topic_made_anew_begins_with_any_epoch(coordinator: GroupCoordinator) -> None:
    lead(coordinator, 0, 3)
    coordinator.unload(0, None, NOW)
    assert coordinator.begin_loading(0, 0)


def test_what_was_loaded_for_a_leadership_that_is_over_is_dropped(coordinator: GroupCoordinator) -> None:
    coordinator.begin_loading(0, 3)
    coordinator.unload(0, 4, NOW)
    coordinator.finish_loading(0, LogContent(), NOW)
    assert status(coordinator, "alpha") == ErrorCode.NOT_COORDINATOR


def test_offsets_go_with_their_topics(coordinator: GroupCoordinator) -> None:
    lead(coordinator, 0)
    commit(coordinator, "alpha", "gone", "kept")
    commit(coordinator, "another", "gone")
    assert coordinator.partitions_deleted({"gone"}, NOW) == 2
    appends = [effect for effect in coordinator.take_effects() if isinstance(effect, Append)]
    assert [[value for _, value in append.records] for append in appends] == [[None], [None]]
    assert coordinator.find("another") is None
    assert set(coordinator.fetch_offsets("alpha", None, False)[1]) == {("kept", 0)}


@pytest.mark.parametrize(
    ("states", "types", "expected"),
    [
        ([], [], {"alpha", "beta"}), (["EMPTY"], [], {"alpha", "beta"}), (["Stable"], [], set()),
        ([], ["Classic"], {"alpha", "beta"}), ([], ["consumer"], set()), (["empty", "x"], ["x", "classic"],
                                                                         {"alpha", "beta"}),
    ],
)  # fmt: skip
def test_filters_of_lists(
    coordinator: GroupCoordinator, states: list[str], types: list[str], expected: set[str]
) -> None:
    for number, group in enumerate(("alpha", "beta")):
        lead(coordinator, number)
        commit(coordinator, group, "t")
    error, found = coordinator.list_groups(states, types)
    assert (error, {group.group_id for group in found}) == (ErrorCode.NONE, expected)


def test_a_list_while_loading_is_incomplete_and_says_so(coordinator: GroupCoordinator) -> None:
    lead(coordinator, 0)
    commit(coordinator, "alpha", "t")
    coordinator.begin_loading(1, 0)
    error, found = coordinator.list_groups([], [])
    assert (error, len(found)) == (ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, 1)


def test_refusals_are_answered_at_once(coordinator: GroupCoordinator) -> None:
    (reply,) = commit(coordinator, "alpha", "t")
    assert reply == Reply("ticket", {("t", 0): ErrorCode.NOT_COORDINATOR})


@pytest.mark.parametrize(
    ("error", "commit_error", "store_error"),
    [
        ("NONE", "NONE", "NONE"),
        ("NOT_ENOUGH_REPLICAS", "COORDINATOR_NOT_AVAILABLE", "COORDINATOR_NOT_AVAILABLE"),
        ("NOT_ENOUGH_REPLICAS_AFTER_APPEND", "COORDINATOR_NOT_AVAILABLE", "COORDINATOR_NOT_AVAILABLE"),
        ("UNKNOWN_TOPIC_OR_PARTITION", "COORDINATOR_NOT_AVAILABLE", "COORDINATOR_NOT_AVAILABLE"),
        ("NOT_LEADER_OR_FOLLOWER", "NOT_COORDINATOR", "NOT_COORDINATOR"),
        ("KAFKA_STORAGE_ERROR", "NOT_COORDINATOR", "NOT_COORDINATOR"),
        ("REQUEST_TIMED_OUT", "REQUEST_TIMED_OUT", "REBALANCE_IN_PROGRESS"),
        ("MESSAGE_TOO_LARGE", "INVALID_COMMIT_OFFSET_SIZE", "UNKNOWN_SERVER_ERROR"),
        ("RECORD_LIST_TOO_LARGE", "INVALID_COMMIT_OFFSET_SIZE", "UNKNOWN_SERVER_ERROR"),
    ],
)
def test_what_an_append_s_error_means_to_clients(error: str, commit_error: str, store_error: str) -> None:
    assert offset_commit_error(ErrorCode[error]).name == commit_error
    assert group_store_error(ErrorCode[error]).name == store_error


def test_nothing_is_answered_twice(coordinator: GroupCoordinator) -> None:
    lead(coordinator, 0)
    replies: list[Any] = [each for each in commit(coordinator, "alpha", "t") if isinstance(each, Reply)]
    assert replies == [Reply("ticket", {("t", 0): ErrorCode.NONE})]
    assert coordinator.take_effects() == []
