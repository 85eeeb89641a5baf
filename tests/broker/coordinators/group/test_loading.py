"""What a partition of __consumer_offsets says when it is read again."""

from __future__ import annotations

from broker.coordinators.group.group import Group
from broker.coordinators.group.loading import Entry, EntryKind, LogContent
from broker.coordinators.group.offsets import CommittedOffset
from broker.coordinators.group.records import RecordVersions, group_key, group_value, offset_key, offset_value
from broker.coordinators.group.states import EMPTY

NOW_MS = 1_000_000
PLAIN, IN_TRANSACTION = EntryKind.RECORD, EntryKind.TRANSACTIONAL_RECORD
NONE = b""


def commit(base: int, offset: int | None, kind: int = PLAIN, producer: int = -1, group: str = "g") -> Entry:
    """Of topic t, partition 0; offset None: a tombstone."""
    committed = None if offset is None else CommittedOffset(offset, -1, "", NOW_MS)
    value = None if committed is None else offset_value(committed, RecordVersions())
    return (kind, base, producer, offset_key(group, "t", 0), value)


def stored(base: int, group: Group | None, group_id: str = "g") -> Entry:
    value = None if group is None else group_value(group, {}, RecordVersions())
    return (PLAIN, base, -1, group_key(group_id), value)


def loaded(*entries: Entry) -> dict[str, Group]:
    content = LogContent()
    content.apply(entries)
    assert not content.malformed
    return content.groups(NOW_MS)


def offset_of(group: Group) -> int | None:
    committed = group.offsets.get(("t", 0))
    return None if committed is None else committed.offset


def test_the_last_record_counts() -> None:
    assert offset_of(loaded(commit(0, 1), commit(1, 2))["g"]) == 2
    assert loaded(commit(0, 1), commit(1, None)) == {}


def test_a_group_of_offsets_alone_is_empty_since_now() -> None:
    group = loaded(commit(0, 1))["g"]
    assert (group.state, group.protocol_type, group.state_timestamp_ms) == (EMPTY, None, NOW_MS)


def test_a_stored_group_takes_its_offsets() -> None:
    group = Group("g", 5)
    group.protocol_type, group.generation_id = "consumer", 3
    found = loaded(commit(0, 1), stored(1, group))["g"]
    assert (found.generation_id, found.state_timestamp_ms, offset_of(found)) == (3, 5, 1)


def test_a_deleted_group_is_gone_and_may_come_back() -> None:
    group = Group("g", 5)
    assert loaded(stored(0, group), stored(1, None)) == {}
    assert set(loaded(stored(0, group), stored(1, None), stored(2, group))) == {"g"}


def test_transactional_commits_wait_for_their_marker() -> None:
    begun = [commit(0, 1), commit(1, 2, IN_TRANSACTION, 7)]
    group = loaded(*begun)["g"]
    assert offset_of(group) == 1 and group.offsets.is_unstable(("t", 0))
    assert offset_of(loaded(*begun, (EntryKind.COMMIT, 2, 7, NONE, None))["g"]) == 2
    group = loaded(*begun, (EntryKind.ABORT, 2, 7, NONE, None))["g"]
    assert offset_of(group) == 1 and not group.offsets.is_unstable(("t", 0))


def test_a_marker_does_not_put_an_older_record_over_a_newer_one() -> None:
    entries = [commit(1, 2, IN_TRANSACTION, 7), commit(2, 3), (EntryKind.COMMIT, 3, 7, NONE, None)]
    assert offset_of(loaded(*entries)["g"]) == 3


def test_markers_end_only_their_own_producer_s_transactions() -> None:
    entries = [commit(1, 2, IN_TRANSACTION, 7), (EntryKind.COMMIT, 2, 8, NONE, None)]
    assert loaded(*entries)["g"].offsets.is_unstable(("t", 0))


def test_what_cannot_be_read_is_stepped_over_and_told() -> None:
    content = LogContent()
    content.apply([
        (PLAIN, 0, -1, b"\x00", b""), (PLAIN, 1, -1, b"\x00\x07other", b""),
        (PLAIN, 2, -1, offset_key("g", "t", 0), b"\x00\x03"), commit(3, 5),
    ])  # fmt: skip
    assert offset_of(content.groups(NOW_MS)["g"]) == 5
    assert [each.partition(":")[0] for each in content.malformed] == ["offset 0", "offset 2"]
    assert content.foreign_count == 1
