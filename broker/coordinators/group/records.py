"""The records of __consumer_offsets, byte for byte as Kafka 3.9 writes them. PURE.

| key version | key | value versions written | value |
|---|---|---|---|
| 1 (0 read) | group, topic, partition | 3; 1 with an expiry time; by inter-broker version 1, 2 | committed offset |
| 2 | group | 3; by inter-broker version 0, 1 and 2 | generation, protocol, leader, members |

Every key and value begins with its version as int16. Keys of higher versions belong to Kafka's other
coordinators; they are left alone.
Why offset commits have a codec of their own: loading reads one per committed partition, on the loop.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

from broker.coordinators.effects import Record
from broker.coordinators.group.group import Group
from broker.coordinators.group.member import Member
from broker.coordinators.group.offsets import NO_EXPIRY, CommittedOffset
from broker.coordinators.group.states import EMPTY, STABLE
from broker.protocol.codec import decode, encode
from broker.protocol.errors import ProtocolError
from broker.protocol.messages import message_class

OFFSET_KEY_VERSION = 1
GROUP_KEY_VERSION = 2
OFFSET_VALUE_VERSION = 3
OFFSET_VALUE_VERSION_WITH_EXPIRY = 1
NO_TIMESTAMP = -1

_VERSION = struct.Struct(">h")
_LENGTH = struct.Struct(">h")
_PARTITION = struct.Struct(">i")
_OFFSET_V3 = struct.Struct(">hqih")
_TIMESTAMP = struct.Struct(">q")


class RecordVersions(NamedTuple):
    """What brokers of the configured inter.broker.protocol.version can read."""

    offset_value: int = OFFSET_VALUE_VERSION
    group_value: int = 3


class MalformedRecordError(Exception):
    """A record that is none of ours, or damaged."""


class OffsetKey(NamedTuple):
    group_id: str
    topic: str
    partition: int


class GroupKey(NamedTuple):
    group_id: str


# Writing


def offset_key(group_id: str, topic: str, partition: int) -> bytes:
    group, name = group_id.encode(), topic.encode()
    return b"".join((
        _VERSION.pack(OFFSET_KEY_VERSION), _LENGTH.pack(len(group)), group, _LENGTH.pack(len(name)), name,
        _PARTITION.pack(partition),
    ))  # fmt: skip


def offset_value(committed: CommittedOffset, versions: RecordVersions) -> bytes:
    version = versions.offset_value
    if committed.expire_timestamp_ms != NO_EXPIRY:
        version = OFFSET_VALUE_VERSION_WITH_EXPIRY
    metadata = committed.metadata.encode()
    if version == OFFSET_VALUE_VERSION:
        head = _OFFSET_V3.pack(version, committed.offset, committed.leader_epoch, len(metadata))
        return head + metadata + _TIMESTAMP.pack(committed.commit_timestamp_ms)
    message = message_class("OffsetCommitValue")(
        offset=committed.offset, metadata=committed.metadata,
        commit_timestamp=committed.commit_timestamp_ms,
    )  # fmt: skip
    if version == OFFSET_VALUE_VERSION_WITH_EXPIRY:
        message.expire_timestamp = committed.expire_timestamp_ms
    return _VERSION.pack(version) + encode(message, version)


def group_key(group_id: str) -> bytes:
    group = group_id.encode()
    return _VERSION.pack(GROUP_KEY_VERSION) + _LENGTH.pack(len(group)) + group


def group_value(group: Group, assignment: Mapping[str, bytes], versions: RecordVersions) -> bytes:
    """assignment: of every member."""
    value = message_class("GroupMetadataValue")
    timestamp = NO_TIMESTAMP if group.state_timestamp_ms is None else group.state_timestamp_ms
    message = value(
        protocol_type=group.protocol_type or "", generation=group.generation_id,
        protocol=group.protocol_name, leader=group.leader_id, current_state_timestamp=timestamp,
        members=[
            value.MemberMetadata(
                member_id=member.member_id, group_instance_id=member.instance_id, client_id=member.client_id,
                client_host=member.client_host, rebalance_timeout=member.rebalance_timeout_ms,
                session_timeout=member.session_timeout_ms, subscription=member.metadata(group.protocol_name),
                assignment=assignment[member.member_id],
            )
            for member in group.members.values()
        ],
    )  # fmt: skip
    return _VERSION.pack(versions.group_value) + encode(message, versions.group_value)


def group_record(group: Group, assignment: Mapping[str, bytes], versions: RecordVersions) -> Record:
    return (group_key(group.group_id), group_value(group, assignment, versions))


# Reading


def read_key(key: bytes) -> OffsetKey | GroupKey | None:
    """None: of a version that is not ours. MalformedRecordError."""
    try:
        (version,) = _VERSION.unpack_from(key)
        if version in (0, OFFSET_KEY_VERSION):
            group_end = 4 + _LENGTH.unpack_from(key, 2)[0]
            topic_end = group_end + 2 + _LENGTH.unpack_from(key, group_end)[0]
            (partition,) = _PARTITION.unpack_from(key, topic_end)
            return OffsetKey(key[4:group_end].decode(), key[group_end + 2 : topic_end].decode(), partition)
        if version == GROUP_KEY_VERSION:
            end = 4 + _LENGTH.unpack_from(key, 2)[0]
            if end > len(key):
                raise MalformedRecordError("group key cut off")
            return GroupKey(key[4:end].decode())
    except (struct.error, UnicodeDecodeError) as error:
        raise MalformedRecordError(f"key {key[:80]!r}: {error}") from error
    return None


def read_offset_value(value: bytes) -> CommittedOffset:
    """MalformedRecordError."""
    try:
        (version,) = _VERSION.unpack_from(value)
        if version == OFFSET_VALUE_VERSION:
            _, offset, epoch, size = _OFFSET_V3.unpack_from(value)
            end = _OFFSET_V3.size + size
            metadata = value[_OFFSET_V3.size : end].decode()
            return CommittedOffset(offset, epoch, metadata, _TIMESTAMP.unpack_from(value, end)[0])
        message = decode(message_class("OffsetCommitValue"), value, version, _VERSION.size)[0]
    except (struct.error, UnicodeDecodeError, ProtocolError) as error:
        raise MalformedRecordError(f"committed offset: {error}") from error
    return CommittedOffset(
        message.offset, message.leader_epoch, message.metadata, message.commit_timestamp,
        message.expire_timestamp,
    )  # fmt: skip


def read_group_value(group_id: str, value: bytes) -> Group:
    """The group as it was stored: Stable with its members, else Empty. MalformedRecordError."""
    try:
        (version,) = _VERSION.unpack_from(value)
        message = decode(message_class("GroupMetadataValue"), value, version, _VERSION.size)[0]
    except (struct.error, ProtocolError) as error:
        raise MalformedRecordError(f"group {group_id!r}: {error}") from error
    timestamp = message.current_state_timestamp
    group = Group(group_id, None if timestamp == NO_TIMESTAMP else timestamp)
    for stored in message.members:
        group.add(_member(stored, message, version))
    group.state = STABLE if message.members else EMPTY
    group.generation_id = message.generation
    group.protocol_type = message.protocol_type or None
    group.protocol_name = message.protocol
    if message.leader in group.members:  # else the first of them leads
        group.leader_id = message.leader
    group.subscribed = group.compute_subscribed()
    return group


def _member(stored: Any, message: Any, version: int) -> Member:
    """Only the protocol that was chosen is stored."""
    return Member(
        stored.member_id, stored.group_instance_id, stored.client_id, stored.client_host,
        stored.session_timeout if version == 0 else stored.rebalance_timeout, stored.session_timeout,
        message.protocol_type, ((message.protocol, bytes(stored.subscription)),), bytes(stored.assignment),
    )  # fmt: skip
