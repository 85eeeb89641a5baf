"""The bytes of __consumer_offsets. Literals were written by Kafka 3.9.1, but for ids and times."""

from __future__ import annotations

import pytest

from broker.coordinators.group.group import Group
from broker.coordinators.group.member import Member
from broker.coordinators.group.offsets import NO_EPOCH, CommittedOffset
from broker.coordinators.group.records import (
    GroupKey,
    MalformedRecordError,
    OffsetKey,
    RecordVersions,
    group_key,
    group_value,
    offset_key,
    offset_value,
    read_group_value,
    read_key,
    read_offset_value,
)
from broker.coordinators.group.states import EMPTY, STABLE

LATEST = RecordVersions()
TIME_MS = 0x18BCFE56800
COMMITTED = CommittedOffset(8, 4, "note", TIME_MS)


def stable_group() -> Group:
    group = Group("g", TIME_MS)
    group.add(Member("i1-x", "i1", "client", "/127.0.0.1", 10_000, 9_000, "consumer", (("range", b"\x00\x00"),)))
    group.generation_id, group.protocol_name, group.state = 1, "range", STABLE
    return group


def test_offset_keys() -> None:
    assert offset_key("g", "topic", 3) == b"\x00\x01\x00\x01g\x00\x05topic\x00\x00\x00\x03"
    assert read_key(offset_key("grüße", "topic", 3)) == OffsetKey("grüße", "topic", 3)


def test_group_keys() -> None:
    assert group_key("g") == b"\x00\x02\x00\x01g"
    assert read_key(group_key("g")) == GroupKey("g")


def test_keys_of_other_coordinators_are_left_alone() -> None:
    assert read_key(b"\x00\x03\x00\x01g") is None


@pytest.mark.parametrize("key", [b"", b"\x00", b"\x00\x01\x00\x09g", b"\x00\x02\x00\x05g", b"\x00\x02\x00\x01\xff"])
def test_damaged_keys_are_malformed(key: bytes) -> None:
    with pytest.raises(MalformedRecordError):
        read_key(key)


@pytest.mark.parametrize(
    ("versions", "expire_ms", "expected"),
    [
        (LATEST, -1, "0003 0000000000000008 00000004 0004 6e6f7465 0000018bcfe56800"),
        (LATEST, TIME_MS, "0001 0000000000000008 0004 6e6f7465 0000018bcfe56800 0000018bcfe56800"),
        (RecordVersions(2, 2), -1, "0002 0000000000000008 0004 6e6f7465 0000018bcfe56800"),
        (RecordVersions(1, 1), -1, "0001 0000000000000008 0004 6e6f7465 0000018bcfe56800 ffffffffffffffff"),
    ],
)
def test_offset_values(versions: RecordVersions, expire_ms: int, expected: str) -> None:
    committed = COMMITTED._replace(expire_timestamp_ms=expire_ms)
    value = offset_value(committed, versions)
    assert value == bytes.fromhex(expected)
    read = read_offset_value(value)
    epoch = committed.leader_epoch if value[1] >= 3 else NO_EPOCH
    assert read == committed._replace(leader_epoch=epoch)


@pytest.mark.parametrize("value", [b"", b"\x00\x03\x00", b"\x00\x63" + bytes(40)])
def test_damaged_offset_values_are_malformed(value: bytes) -> None:
    with pytest.raises(MalformedRecordError):
        read_offset_value(value)


def test_group_values() -> None:
    value = group_value(stable_group(), {"i1-x": b"part"}, LATEST)
    assert value == b"".join([
        b"\x00\x03", b"\x00\x08consumer", b"\x00\x00\x00\x01", b"\x00\x05range", b"\x00\x04i1-x",
        bytes.fromhex("0000018bcfe56800"), b"\x00\x00\x00\x01",
        b"\x00\x04i1-x", b"\x00\x02i1", b"\x00\x06client", b"\x00\x0a/127.0.0.1", (10_000).to_bytes(4, "big"),
        (9_000).to_bytes(4, "big"), b"\x00\x00\x00\x02\x00\x00", b"\x00\x00\x00\x04part",
    ])  # fmt: skip


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_a_group_comes_back_as_it_was_stored(version: int) -> None:
    group = read_group_value("g", group_value(stable_group(), {"i1-x": b"part"}, RecordVersions(3, version)))
    (member,) = group.members.values()
    assert (group.state, group.generation_id, group.leader_id) == (STABLE, 1, "i1-x")
    assert (group.protocol_type, group.protocol_name) == ("consumer", "range")
    assert (member.assignment, member.protocols) == (b"part", (("range", b"\x00\x00"),))
    assert member.session_timeout_ms == 9_000
    assert member.rebalance_timeout_ms == (9_000 if version == 0 else 10_000)
    assert member.instance_id == ("i1" if version == 3 else None)
    assert group.state_timestamp_ms == (TIME_MS if version >= 2 else None)


def test_an_empty_group_has_no_protocol_and_no_leader() -> None:
    group = Group("g", TIME_MS)
    group.protocol_type, group.generation_id = "consumer", 5
    read = read_group_value("g", group_value(group, {}, LATEST))
    assert (read.state, read.generation_id, read.protocol_name, read.leader_id) == (EMPTY, 5, None, None)
    assert read.subscribed == frozenset()
