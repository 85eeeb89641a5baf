"""A group's committed offsets: pending, stored, expired."""

from __future__ import annotations

from broker.coordinators.group.offsets import CommittedOffset, OffsetTable, Stored

A, B = ("a", 0), ("b", 0)


def at(offset: int, committed_ms: int = 0, expire_ms: int = -1) -> CommittedOffset:
    return CommittedOffset(offset, -1, "", committed_ms, expire_ms)


def table(**stored: CommittedOffset) -> OffsetTable:
    offsets = OffsetTable()
    for number, (topic, committed) in enumerate(stored.items()):
        offsets.put((topic, 0), Stored(number, committed))
    return offsets


def test_a_commit_counts_when_it_is_stored() -> None:
    offsets = table(a=at(1))
    offsets.begin({A: at(2)})
    assert offsets.get(A) == at(1) and offsets.is_unstable(A)
    offsets.finish({A: at(2)}, 10)
    assert offsets.get(A) == at(2) and not offsets.is_unstable(A)


def test_a_commit_that_fails_leaves_what_was_there() -> None:
    offsets = table(a=at(1))
    offsets.begin({A: at(2)})
    offsets.fail({A: at(2)})
    assert offsets.get(A) == at(1) and not offsets.is_unstable(A)


def test_two_commits_under_way_end_in_the_later_one() -> None:
    offsets = table()
    offsets.begin({A: at(2)})
    offsets.begin({A: at(3)})
    offsets.finish({A: at(2)}, 10)
    assert offsets.get(A) == at(2) and offsets.is_unstable(A)
    offsets.finish({A: at(3)}, 11)
    assert offsets.get(A) == at(3) and not offsets.is_unstable(A)


def test_what_lies_later_in_the_log_wins() -> None:
    offsets = table()
    offsets.put(A, Stored(10, at(2)))
    offsets.put(A, Stored(9, at(1)))
    assert offsets.get(A) == at(2)


def test_what_was_removed_meanwhile_stays_removed() -> None:
    offsets = table(a=at(1))
    offsets.begin({A: at(2)})
    assert offsets.remove([A, B]) == [A]
    offsets.finish({A: at(2)}, 10)
    assert offsets.get(A) is None and not offsets


def test_offsets_expire_after_their_retention_or_at_their_own_time() -> None:
    offsets = table(old=at(1, 0), young=at(1, 50), own=at(1, 0, expire_ms=100), later=at(1, 0, expire_ms=101))
    expired = offsets.take_expired(100, 60, lambda committed: committed.commit_timestamp_ms, lambda topic: False)
    assert expired == [("old", 0), ("own", 0)]
    assert set(offsets.stored) == {("young", 0), ("later", 0)}


def test_nobody_s_offset_expires_while_it_is_used() -> None:
    offsets = table(subscribed=at(1), committing=at(1))
    offsets.begin({("committing", 0): at(2)})
    expired = offsets.take_expired(10**9, 1, lambda committed: 0, lambda topic: topic == "subscribed")
    assert expired == []


def test_open_transactions_keep_an_offset_unstable() -> None:
    offsets = table(a=at(1))
    offsets.transactional[7] = {A: Stored(5, at(2))}
    assert offsets.is_unstable(A) and offsets
    offsets.remove([A])
    assert not offsets.transactional
