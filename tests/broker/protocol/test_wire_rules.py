"""The rules of encoding and decoding, each at one message that shows it, with its bytes written out."""
from __future__ import annotations

import struct
from typing import Any

import pytest

from broker.protocol.codec import decode, encode
from broker.protocol.errors import ErrorCode, MalformedError, UnsupportedVersionError
from broker.protocol.messages import message_class

Metadata = message_class("MetadataRequest")
Fetch = message_class("FetchRequest")
ApiVersions = message_class("ApiVersionsRequest")
ApiVersionsResponse = message_class("ApiVersionsResponse")
Heartbeat = message_class("HeartbeatRequest")
SyncGroup = message_class("SyncGroupRequest")
CreateTopicsResponse = message_class("CreateTopicsResponse")


# --- encoding -----------------------------------------------------------------------------------------

def test_strings_have_an_int16_length_or_a_varint_one_too_high() -> None:
    message = Heartbeat(group_id="ab", generation_id=7, member_id="")
    assert encode(message, 0) == b"\0\2ab" + b"\0\0\0\7" + b"\0\0"
    assert encode(message, 4) == b"\3ab" + b"\0\0\0\7" + b"\1" + b"\0" + b"\0"


def test_null_is_minus_one_or_the_varint_zero() -> None:
    assert encode(Metadata(topics=None), 1) == b"\xff\xff\xff\xff"
    assert encode(Metadata(topics=None), 9)[:1] == b"\0"


def test_a_nullable_structure_begins_with_a_mark() -> None:
    cls = message_class("ConsumerGroupHeartbeatResponse")
    without, within = encode(cls(assignment=None), 0), encode(cls(assignment=cls.Assignment()), 0)
    assert without.endswith(b"\xff" + b"\0")
    assert within.endswith(b"\1" + b"\1\0" + b"\0")
    assert decode(cls, without, 0)[0].assignment is None
    assert decode(cls, within, 0)[0].assignment == cls.Assignment()


def test_uuids_are_sixteen_bytes() -> None:
    topic = Metadata.MetadataRequestTopic(topic_id=bytes(range(16)), name=None)
    assert bytes(range(16)) in encode(Metadata(topics=[topic]), 12)
    with pytest.raises(ValueError, match="TopicId in version 12 has 3 bytes"):
        encode(Metadata(topics=[Metadata.MetadataRequestTopic(topic_id=b"abc", name=None)]), 12)


def test_a_field_that_the_version_lacks_must_hold_its_default() -> None:
    with pytest.raises(UnsupportedVersionError, match="AllowAutoTopicCreation in version 3 .* holds False"):
        encode(Metadata(allow_auto_topic_creation=False), 3)


def test_an_ignorable_field_that_the_version_lacks_is_dropped() -> None:
    assert encode(Fetch(max_bytes=5), 2) == encode(Fetch(), 2)


@pytest.mark.parametrize("empty", [[], ()])
def test_an_empty_array_counts_as_the_default(empty: Any) -> None:
    assert encode(Fetch(forgotten_topics_data=empty), 6) == encode(Fetch(), 6)


def test_a_structure_that_the_version_lacks_must_be_a_structure_of_defaults() -> None:
    assert encode(Fetch(replica_state=Fetch.ReplicaState()), 14) == encode(Fetch(), 14)
    with pytest.raises(UnsupportedVersionError, match="ReplicaState"):
        encode(Fetch(replica_state=Fetch.ReplicaState(replica_id=3)), 14)


def test_null_that_only_other_versions_have_is_an_unsupported_version() -> None:
    with pytest.raises(UnsupportedVersionError, match="Topics in version 0 must not be null"):
        encode(Metadata(topics=None), 0)


def test_null_that_no_version_has_is_the_callers_mistake() -> None:
    with pytest.raises(TypeError, match="GroupId"):
        encode(Heartbeat(group_id=None), 0)


def test_error_codes_may_be_names() -> None:
    response = message_class("HeartbeatResponse")
    assert encode(response(error_code=ErrorCode.REBALANCE_IN_PROGRESS), 0) == b"\0\x1b"


@pytest.mark.parametrize("value", [1 << 31, -(1 << 31) - 1])
def test_numbers_out_of_range_are_the_callers_mistake(value: int) -> None:
    with pytest.raises(struct.error):
        encode(Heartbeat(generation_id=value), 0)


@pytest.mark.parametrize("version", [0, 4])
def test_strings_above_32767_bytes_are_not_written(version: int) -> None:
    assert encode(Heartbeat(group_id="x" * 32767), version)
    with pytest.raises(ValueError, match="has 32768 bytes"):
        encode(Heartbeat(group_id="x" * 32768), version)


def test_a_tagged_field_that_holds_its_default_is_left_out() -> None:
    without = encode(ApiVersionsResponse(), 3)
    assert without.endswith(b"\0")
    assert encode(ApiVersionsResponse(finalized_features_epoch=-1), 3) == without
    assert encode(ApiVersionsResponse(finalized_features_epoch=5), 3) == (
        without[:-1] + b"\1" + b"\1" + b"\x08" + struct.pack(">q", 5))


def test_known_and_unknown_tagged_fields_are_written_in_order_of_their_tags() -> None:
    message = ApiVersionsResponse(zk_migration_ready=True, unknown_tagged_fields=((90, b"xy"), (7, b"")))
    assert encode(message, 3).endswith(b"\3" + b"\3\1\1" + b"\x07\0" + b"\x5a\2xy")


def test_an_unknown_tagged_field_may_not_take_the_tag_of_a_known_one() -> None:
    message = ApiVersionsResponse(zk_migration_ready=True, unknown_tagged_fields=((3, b"\1"),))
    with pytest.raises(ValueError, match="tag 3 is used twice"):
        encode(message, 3)


def test_unknown_tagged_fields_need_a_flexible_version() -> None:
    message = Heartbeat(unknown_tagged_fields=((0, b""),))
    with pytest.raises(UnsupportedVersionError, match="no tagged fields"):
        encode(message, 3)
    assert encode(message, 4)


def test_the_client_id_of_a_request_header_is_never_compact() -> None:
    header = message_class("RequestHeader")(request_api_key=3, request_api_version=9, correlation_id=1,
                                            client_id="ab")
    assert encode(header, 2) == b"\0\3\0\x09\0\0\0\1" + b"\0\2ab" + b"\0"


# --- decoding -----------------------------------------------------------------------------------------

def test_any_negative_length_is_null() -> None:
    assert decode(Metadata, struct.pack(">i", -5), 1)[0].topics is None


@pytest.mark.parametrize(("version", "data"), [(0, b"\xff\xff"), (4, b"\0")])
def test_null_where_none_is_allowed_is_malformed(version: int, data: bytes) -> None:
    with pytest.raises(MalformedError, match="HeartbeatRequest.GroupId in version . is null"):
        decode(Heartbeat, data + bytes(20), version)


def test_a_string_that_is_no_utf_8_is_malformed() -> None:
    with pytest.raises(MalformedError, match="no UTF-8"):
        decode(Heartbeat, b"\0\2\xff\xfe" + bytes(20), 0)


def test_a_compact_string_above_32767_bytes_is_malformed() -> None:
    with pytest.raises(MalformedError, match="has 32768 bytes, more than 32767"):
        decode(Heartbeat, b"\x81\x80\x02" + b"x" * 40000, 4)


@pytest.mark.parametrize("count", [0x7FFFFFFF, 1000])
def test_a_count_beyond_the_bytes_left_is_refused_before_anything_is_made(count: int) -> None:
    with pytest.raises(MalformedError, match="Topics in version 0 needs"):
        decode(Metadata, struct.pack(">i", count) + bytes(8), 0)


def test_any_byte_but_zero_is_true() -> None:
    data = bytearray(encode(Metadata(topics=None), 4))
    data[-1] = 7
    assert decode(Metadata, data, 4)[0].allow_auto_topic_creation is True


def test_unknown_tagged_fields_are_kept() -> None:
    data = b"\1\1" + b"\2" + b"\x05\2hi" + b"\x90\1\0"
    message, position = decode(ApiVersions, data, 3)
    assert message.unknown_tagged_fields == ((5, b"hi"), (144, b""))
    assert position == len(data)
    assert encode(message, 3) == data


def test_unknown_tagged_fields_of_structures_are_kept() -> None:
    topic = Metadata.MetadataRequestTopic(name="t", unknown_tagged_fields=((1, b"z"),))
    data = encode(Metadata(topics=[topic]), 9)
    assert decode(Metadata, data, 9)[0].topics[0].unknown_tagged_fields == ((1, b"z"),)


@pytest.mark.parametrize("tags", [b"\2\x05\0\x05\0", b"\2\x06\0\x05\0"], ids=["twice", "out of order"])
def test_tags_must_rise(tags: bytes) -> None:
    with pytest.raises(MalformedError, match="tag 5 after tag"):
        decode(ApiVersions, b"\1\1" + tags, 3)


def test_a_known_tagged_field_must_have_the_size_it_announces() -> None:
    body = encode(ApiVersionsResponse(), 3)[:-1]
    assert decode(ApiVersionsResponse, body + b"\1\3\1\1", 3)[0].zk_migration_ready is True
    with pytest.raises(MalformedError, match="announces 2 bytes but has 1"):
        decode(ApiVersionsResponse, body + b"\1\3\2\1\1", 3)


def test_a_tag_that_only_later_versions_know_is_kept_as_unknown() -> None:
    data = encode(Fetch(unknown_tagged_fields=((1, b"later"),)), 12)
    assert decode(Fetch, data, 12)[0].unknown_tagged_fields == ((1, b"later"),)


@pytest.mark.parametrize("varint", [b"\xff\xff\xff\xff\x0f", b"\x80\x80\x80\x80\x80\x01"])
def test_a_varint_above_31_bits_is_malformed(varint: bytes) -> None:
    with pytest.raises(MalformedError, match="varint"):
        decode(ApiVersions, varint + bytes(20), 3)


def test_fields_that_the_version_lacks_have_their_defaults() -> None:
    message = decode(Fetch, encode(Fetch(), 0), 0)[0]
    assert (message.max_bytes, message.session_epoch, message.rack_id) == (0x7FFFFFFF, -1, "")
    assert message.replica_state == Fetch.ReplicaState(replica_id=-1, replica_epoch=-1)


def test_default_structures_are_not_shared() -> None:
    first, second = (decode(Fetch, encode(Fetch(), 0), 0)[0] for _ in range(2))
    first.replica_state.replica_id = 9
    assert second.replica_state.replica_id == -1
    assert Fetch().replica_state.replica_id == -1


def test_a_tagged_field_in_an_array_element() -> None:
    topic = CreateTopicsResponse.CreatableTopicResult(name="t", topic_config_error_code=29)
    data = encode(CreateTopicsResponse(topics=[topic]), 5)
    assert decode(CreateTopicsResponse, data, 5)[0].topics[0].topic_config_error_code == 29
    # ignorable, so dropped in versions without it
    assert decode(CreateTopicsResponse, encode(CreateTopicsResponse(topics=[topic]), 4), 4)[0] == (
        CreateTopicsResponse(topics=[CreateTopicsResponse.CreatableTopicResult(name="t")]))


def test_deep_nesting_cannot_come_from_the_wire() -> None:
    """Structures nest as the table says, four deep at most; no message contains itself."""
    with pytest.raises(MalformedError):
        decode(SyncGroup, b"\2" * 10000, 5)
