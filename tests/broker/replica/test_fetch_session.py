"""Incremental fetch sessions: KIP-227's table, subtle behaviour 47."""

from __future__ import annotations

from typing import Any

from broker.protocol.errors import ErrorCode
from broker.replica.fetch_session import FetchContext, FetchSessions
from broker.replica.marks import LogPosition
from broker.replica.partition import Partition


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def wanted(number: int, offset: int = 0) -> Any:
    return ("t", "t", (number, -1, offset, -1, -1, 1000))


def sessions(slots: int = 10) -> tuple[FetchSessions, Clock]:
    clock = Clock()
    return FetchSessions(slots, 120.0, clock), clock


def full(cache: FetchSessions, count: int = 2, privileged: bool = False) -> FetchContext:
    return cache.begin(0, 0, False, privileged, [wanted(number) for number in range(count)], [])


def test_a_full_fetch_makes_a_session_and_reads_everything() -> None:
    cache, _ = sessions()
    context = full(cache)
    assert context.session_id != 0
    assert [target.number for target in context.targets] == [0, 1]
    assert not context.incremental


def test_final_epoch_without_a_session_is_sessionless() -> None:
    cache, _ = sessions()
    context = cache.begin(0, -1, False, False, [wanted(0)], [])
    assert context.session is None
    assert [target.number for target in context.targets] == [0]
    assert len(cache) == 0


def test_final_epoch_closes_the_session_and_answers_fully() -> None:
    cache, _ = sessions()
    session_id = full(cache).session_id
    context = cache.begin(session_id, -1, False, False, [wanted(0)], [])
    assert context.session is None and len(context.targets) == 1
    assert cache.begin(session_id, 1, False, False, [], []).error == ErrorCode.FETCH_SESSION_ID_NOT_FOUND


def test_epochs_must_follow_each_other() -> None:
    cache, _ = sessions()
    session_id = full(cache).session_id
    assert cache.begin(session_id, 2, False, False, [], []).error == ErrorCode.INVALID_FETCH_SESSION_EPOCH
    assert cache.begin(session_id, 1, False, False, [], []).error == 0
    assert cache.begin(session_id, 2, False, False, [], []).error == 0


def test_epoch_wraps_to_one() -> None:
    cache, _ = sessions()
    context = full(cache)
    assert context.session is not None
    context.session.epoch = 2**31 - 1
    assert cache.begin(context.session_id, 2**31 - 1, False, False, [], []).error == 0
    assert context.session.epoch == 1


def test_names_and_ids_do_not_mix_in_a_session() -> None:
    cache, _ = sessions()
    session_id = full(cache).session_id
    assert cache.begin(session_id, 1, True, False, [], []).error == ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR


def test_a_changed_partition_is_looked_at_and_others_are_not() -> None:
    cache, _ = sessions()
    context = full(cache)
    session = context.session
    assert session is not None
    partition = Partition("t", 1, bytes(16), 0, "/d", 1, 1)
    session.bind(session.targets[("t", 1)], partition)
    session.pending.clear()
    partition.log_opened(0, LogPosition(0, 0, 0), -1, 0, 0)
    partition.log_advanced(LogPosition(4, 0, 400), 0, -1, 0)
    following = cache.begin(session.session_id, 1, False, False, [], [])
    assert [target.number for target in following.targets] == [1]


def test_forgotten_partitions_are_no_longer_watched() -> None:
    cache, _ = sessions()
    session = full(cache).session
    assert session is not None
    partition = Partition("t", 1, bytes(16), 0, "/d", 1, 1)
    session.bind(session.targets[("t", 1)], partition)
    cache.begin(session.session_id, 1, False, False, [], [("t", 1)])
    assert partition.watchers == set()
    assert ("t", 1) not in session.targets


def test_forgetting_everything_ends_the_session() -> None:
    cache, _ = sessions()
    session_id = full(cache, 1).session_id
    context = cache.begin(session_id, 1, False, False, [], [("t", 0)])
    assert context.session is None and context.incremental
    assert len(cache) == 0


def test_a_full_cache_keeps_recent_sessions_and_leaves_the_client_sessionless() -> None:
    cache, _ = sessions(slots=1)
    first = full(cache).session_id
    assert full(cache).session_id == 0
    assert cache.begin(first, 1, False, False, [], []).error == 0


def test_a_full_cache_evicts_what_was_idle_for_two_minutes() -> None:
    cache, clock = sessions(slots=1)
    first = full(cache).session_id
    clock.now_s += 121
    assert full(cache).session_id not in (0, first)
    assert cache.begin(first, 1, False, False, [], []).error == ErrorCode.FETCH_SESSION_ID_NOT_FOUND


def test_a_larger_session_evicts_a_smaller_one_that_had_its_time() -> None:
    cache, clock = sessions(slots=1)
    first = full(cache, 1).session_id
    clock.now_s += 100
    assert cache.begin(first, 1, False, False, [], []).error == 0
    clock.now_s += 30
    assert full(cache, 1).session_id == 0
    assert full(cache, 5).session_id != 0


def test_a_full_fetch_of_nothing_makes_a_session_too() -> None:
    cache, _ = sessions()
    context = full(cache, count=0)
    assert context.session_id != 0
    assert context.targets == []


def test_of_a_partition_named_twice_the_last_wish_counts_in_the_first_place() -> None:
    cache, _ = sessions()
    for epoch in (0, -1):
        context = cache.begin(0, epoch, False, False, [wanted(1, 5), wanted(0), wanted(1, 7)], [])
        assert [(target.number, target.fetch_offset) for target in context.targets] == [(1, 7), (0, 0)]


def test_who_gave_data_is_served_last() -> None:
    cache, _ = sessions()
    session = full(cache, count=3).session
    assert session is not None
    for served in (0, 1, 2, 0):
        order = [target.number for target in session.to_serve()]
        assert order[0] == served
        session.put_last(session.to_serve()[0])


def test_a_partition_that_is_added_is_served_last() -> None:
    cache, _ = sessions()
    session = full(cache, count=2).session
    assert session is not None
    session.want("t", "t", wanted(7)[2])
    assert [target.number for target in session.to_serve()] == [0, 1, 7]
