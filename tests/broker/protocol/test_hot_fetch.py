"""Fetch requests by hand equal Fetch requests by the generic codec, in every version."""
from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.protocol.codec import decode, encode
from broker.protocol.errors import MalformedError, ProtocolError, UnsupportedVersionError
from broker.protocol.hot_fetch import FetchRequest, parse_fetch_request
from broker.protocol.hot_fetch_response import VERSION_MAX
from broker.protocol.messages import message_class
from tests.broker.protocol.values import random_message

Request = message_class("FetchRequest")
EVERY_VERSION = pytest.mark.parametrize("version", range(VERSION_MAX + 1))
SEEDS = st.integers(0, 1 << 32)


def expected(message: Any, version: int) -> FetchRequest:
    """The generic message in the parser's shape."""
    has_ids = version >= 13
    topics = [
        (None if has_ids else topic.topic, topic.topic_id if has_ids else None, [
            (partition.partition, partition.current_leader_epoch, partition.fetch_offset,
             partition.last_fetched_epoch, partition.log_start_offset, partition.partition_max_bytes)
            for partition in topic.partitions])
        for topic in message.topics]
    forgotten = [(None if has_ids else topic.topic, topic.topic_id if has_ids else None, topic.partitions)
                 for topic in message.forgotten_topics_data]
    replica_id = message.replica_state.replica_id if version >= 15 else message.replica_id
    return FetchRequest(
        replica_id, message.max_wait_ms, message.min_bytes, message.max_bytes, message.isolation_level,
        message.session_id, message.session_epoch, topics, forgotten, message.rack_id,
        message.replica_state.replica_epoch)


@EVERY_VERSION
@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, before=st.integers(0, 9), after=st.integers(0, 9))
def test_a_request_is_what_the_generic_codec_reads(version: int, seed: int, before: int, after: int) -> None:
    message = random_message("FetchRequest", version, seed)
    data = encode(message, version)
    view = memoryview(bytearray(bytes(before) + data + bytes(after)))
    request = parse_fetch_request(view, before, before + len(data), version)
    assert request == expected(message, version)


@EVERY_VERSION
def test_what_a_version_lacks_has_kafkas_default(version: int) -> None:
    data = encode(Request(), version)
    request = parse_fetch_request(memoryview(data), 0, len(data), version)
    assert request == FetchRequest(-1, 0, 0, 0x7FFFFFFF, 0, 0, -1, [], [], "", -1)


@EVERY_VERSION
def test_a_request_cut_at_any_byte_is_malformed(version: int) -> None:
    partition = Request.FetchPartition(
        partition=1, replica_directory_id=b"\1" * 16 if version >= 17 else bytes(16))
    topic = {"topic_id": b"\2" * 16} if version >= 13 else {"topic": "topic"}
    message = Request(topics=[Request.FetchTopic(partitions=[partition] * 2, **topic)], rack_id="rack")
    if version >= 7:
        message.forgotten_topics_data = [Request.ForgottenTopic(partitions=[1, 2], **topic)]
    if version >= 15:
        message.replica_state = Request.ReplicaState(replica_id=1, replica_epoch=2)
    data = encode(message, version)
    view = memoryview(data + bytes(1000))
    for end in range(len(data)):
        with pytest.raises(MalformedError):
            parse_fetch_request(view, 0, end, version)
        with pytest.raises(MalformedError):
            parse_fetch_request(view[:end], 0, end, version)


@EVERY_VERSION
@settings(max_examples=100, deadline=None)
@given(seed=SEEDS, changes=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=3))
def test_changed_bytes_parse_as_the_generic_codec_does_or_are_a_protocol_error(
    version: int, seed: int, changes: list[tuple[int, int]]
) -> None:
    """The one leniency: tagged fields that a broker has no use for are skipped unread."""
    data = bytearray(encode(random_message("FetchRequest", version, seed), version))
    for position, value in changes:
        data[position % len(data)] = value
    try:
        request = parse_fetch_request(memoryview(data), 0, len(data), version)
    except ProtocolError:
        with pytest.raises(ProtocolError):
            decode(Request, data, version)
        return
    try:
        message, _ = decode(Request, data, version)
    except ProtocolError:
        assert version >= 12
        return
    assert request == expected(message, version)


@EVERY_VERSION
@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=150))
def test_any_bytes_are_a_request_or_a_protocol_error(version: int, data: bytes) -> None:
    try:
        parse_fetch_request(memoryview(data), 0, len(data), version)
    except ProtocolError:
        return


@pytest.mark.parametrize("version", [-1, VERSION_MAX + 1])
def test_other_versions_are_refused(version: int) -> None:
    with pytest.raises(UnsupportedVersionError):
        parse_fetch_request(memoryview(bytes(100)), 0, 100, version)


def test_a_followers_state_must_have_the_size_it_announces() -> None:
    message = Request(replica_state=Request.ReplicaState(replica_id=1, replica_epoch=2))
    data = bytearray(encode(message, 15))
    assert data[-15:-13] == b"\1\x0d"  # tag, size
    data[-14] = 12
    with pytest.raises(MalformedError, match="announces 12 bytes but has 13"):
        parse_fetch_request(memoryview(data), 0, len(data), 15)
